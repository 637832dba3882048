"""A rule as a function of one array whose state the caller owns."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, ParamSpec

from ._core import Function
from .documentation import filled

P = ParamSpec("P")


def native(twin: Callable[P, None]) -> Callable[P, None]:
    """What `twin` computes, by the kernels: same arguments, same bits.  The twin stays behind as ``__wrapped__``."""
    code: Any = twin.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    twin.__doc__ = filled(twin.__doc__, names[names.index("step_count") + 1 :])
    function = Function(code.co_name, twin)  # the rule, of which a twin may be a variant

    @wraps(twin)
    def step(*args: P.args, **kwargs: P.kwargs) -> None:
        function(args, kwargs)

    return step


def variant(function: Callable[P, None], name: str, doc: str, **defaults: Any) -> Callable[P, None]:
    """`function` under another name and with other defaults."""
    twin: Any = function.__wrapped__  # type: ignore[attr-defined]
    other = FunctionType(twin.__code__, twin.__globals__, name)
    other.__kwdefaults__ = twin.__kwdefaults__ | defaults
    other.__defaults__ = twin.__defaults__
    other.__annotations__ = twin.__annotations__
    other.__doc__ = doc
    other.__module__ = twin.__module__
    other.__qualname__ = name
    return native(other)
