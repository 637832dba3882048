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

from . import _core


def __getattr__(name: str) -> Callable[..., None]:
    twins = _twins()
    if name not in twins:
        raise AttributeError(f"instep.reference has no {name!r:.80}; it has {', '.join(twins)}")
    twin = twins[name]
    function = _core.Function(twin.__code__.co_name, twin)

    @wraps(twin)
    def checked(*args: Any, **kwargs: Any) -> None:
        """Refuses what the kernels refuse, with the same words, before anything is written."""
        _core.run_in_step_arithmetic(twin, (), function.arguments(args, kwargs))

    checked.__module__ = __name__
    globals()[name] = checked
    return checked


def __dir__() -> list[str]:
    return sorted(_twins())


def _twins() -> dict[str, Any]:
    """Those of the rules and of their variants, by name."""
    import instep

    functions = {name: instep.__dict__[name] for name in instep.__all__}
    twins: dict[str, Any] = {name: vars(step).get("__wrapped__") for name, step in functions.items() if callable(step)}
    return {name: twin for name, twin in twins.items() if twin and twin.__code__.co_name in _core.rules()}
