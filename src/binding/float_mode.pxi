# In one call, and not as contexts: a signal handler that raises between entering one and its body would leave the mode.
# For the same reason NumPy is told not to warn in a copy of the caller's context, which is gone whatever happens:
# `errstate` enters and leaves in Python code.

def run_in_default_arithmetic(function, args, kwargs, /):
    """Call it in IEEE's default floating-point mode, without warnings."""
    return _run(IEEE, function, args, kwargs)


def run_in_step_arithmetic(function, args, kwargs, /):
    """Call it in the floating-point mode of a step, in which subnormal numbers count as 0, without warnings."""
    return _run(STEP, function, args, kwargs)


cdef object _run(float_arithmetic arithmetic, object function, tuple args, dict kwargs):
    cdef float_mode callers = float_mode_enter(arithmetic)
    try:
        return copy_context().run(_without_warnings, function, args, kwargs)
    finally:
        float_mode_leave(callers)


def _without_warnings(function, args, kwargs, /):
    seldom()
    np.seterr(all="ignore")
    return function(*args, **kwargs)
