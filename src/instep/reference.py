"""The NumPy twin of every rule: what the kernels compute, in NumPy's words.

``instep.reference.rmsprop`` takes the arguments of `instep.rmsprop` and leaves the same bits behind, NaN payloads
aside, for NumPy rounds a Python float to the dtype of the array it meets, once, as the kernels do; so for every rule.
Both work in a floating-point mode in which subnormal numbers count as 0.  The source of each is the function of its
name in ``instep.rules``: read it as documentation, and test against it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ._core import Options, rules, run_in_step_arithmetic


def __getattr__(name: str) -> Callable[..., None]:
    import instep

    twin: Any = getattr(instep.__dict__.get(name), "__wrapped__", None)
    if twin is None:
        raise AttributeError(f"instep.reference has no {name!r}; it has {', '.join(rules())}")
    rule = twin.__code__.co_name
    names = Options(rule).of_formula

    @wraps(twin)
    def checked(param: Any, *args: Any, **kwargs: Any) -> None:
        """Refuses the options that the kernels refuse, with the same words."""
        options = twin.__kwdefaults__ | kwargs
        Options(rule).replace({option: options[option] for option in names}, (param.dtype,))
        run_in_step_arithmetic(twin, (param, *args), kwargs)

    globals()[name] = checked
    return checked


def __dir__() -> list[str]:
    return sorted({*globals(), *rules()})
