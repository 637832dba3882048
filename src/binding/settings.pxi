def isas():
    """The instruction sets compiled in, lowest first, and whether this processor runs them."""
    cdef size_t k = 0
    found = {}
    while instep_isa_name(k) is not NULL:
        found[instep_isa_name(k).decode()] = bool(instep_isa_available(k))
        k += 1
    return found


def active_isa():
    """The instruction set whose loops run."""
    return instep_active_isa().decode()


def set_isa(name, /):
    """Run the loops of this instruction set; None chooses the highest that this processor runs."""
    if name is None:
        instep_set_isa(NULL)
        return
    cdef bytes encoded = name.encode()
    cdef int status = instep_set_isa(encoded)
    if status != INSTEP_OK:
        available = ", ".join(filter(isas().get, isas()))
        raise ValueError(f"instruction set {name!r}: {instep_message(status).decode()}; choose one of {available}")


def get_num_threads():
    """How many threads a large step may use, the caller's included.

    Returns
    -------
    int
        What was set last by `set_num_threads` or ``INSTEP_NUM_THREADS``; by default the number of processors that
        affinity and control groups leave to this process.
    """
    return instep_get_threads()


def set_num_threads(threads):
    """Set how many threads a large step may use, for the whole process.

    The bits of a step do not depend on it.  A small step uses the caller's thread whatever the number, and on Windows
    every step does.

    Parameters
    ----------
    threads : int or None
        From 1 to 256, the caller's thread included; None asks for the default.

    Raises
    ------
    TypeError, ValueError
        `threads` is not such a number.
    """
    seldom()
    if threads is None:
        instep_set_threads(0)
        return
    # An int is not asked about its class by Python code, in which a handler might raise: `num_threads` puts one back.
    if type(threads) is not int and (isinstance(threads, bool) or not isinstance(threads, numbers.Integral)):
        raise TypeError(f"threads must be an integer or None, not {threads!r}")
    if not 1 <= threads <= 256:
        raise ValueError(f"threads={threads} must be from 1 to 256")
    cdef int status = instep_set_threads(threads)
    if status != INSTEP_OK:
        raise ValueError(f"threads={threads}: {instep_message(status).decode()}")
