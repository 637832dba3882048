"""The variants of a rule that cost something else: every option that is off, turned on."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import reference
from .._core import Options
from ..dialects import family
from .work import dialect, make_work

PLAIN = "plain"


def variants_of(kind: str) -> dict[str, dict[str, Any]]:
    """What to change for each, by name.

    An option that is refused alone, or does nothing alone, is turned on beside the first that it needs.  The last
    variant has all that bring states.
    """
    plain = dialect(kind)
    alone = {name: {name: value} for name, value in turned_on(kind, plain).items()}
    counted = {name: change for name, change in alone.items() if differ(kind, plain, {}, change)}
    found: dict[str, dict[str, Any]] = {PLAIN: {}}
    for name, change in alone.items():
        if name in counted:
            found[name] = change
            continue
        for other, needed in (counted | found).items():
            if differ(kind, plain, needed, needed | change):
                found[f"{other}, {name}"] = needed | change
                break
    more = [name for name, change in counted.items() if len(under(plain, change).states) > len(plain.states)]
    if len(more) > 1:
        found[", ".join(more)] = {key: value for name in more for key, value in counted[name].items()}
    return found


def turned_on(kind: str, plain: Options) -> dict[str, Any]:
    """A value for every option that is off; none for those that only say what states start at."""
    on = {"flag": True, "decay": 0.9, "any size": 1.0}
    return {
        name: on[plain.ranges[name]]
        for name, value in plain.formula().items()
        if value == 0 and not (plain.ranges[name] == "any size" and getattr(family()[kind], name).is_structural)
    }


def under(plain: Options, changes: dict[str, Any]) -> Options:
    """The options so changed; ValueError if they do not go together."""
    return plain.replace(changes, (np.float64,))


def differ(kind: str, plain: Options, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both are accepted, and leave other numbers after some steps."""
    try:
        return not np.array_equal(stepped(kind, under(plain, one)), stepped(kind, under(plain, other)))
    except ValueError:
        return False


def stepped(kind: str, options: Options) -> np.ndarray[Any, Any]:
    """A parameter after steps with gradients of both signs, of which the last is small."""
    work = make_work(kind, [(50,)], np.float64, options)
    arrays = dict(zip(("param", "grad", *work.states), work.of_each[0], strict=True))
    for name, start in options.states.items():
        arrays[name].fill(start)
    for t, factor in enumerate((1, -0.7, 1.1, -1e-3), 1):
        arrays["grad"] *= factor
        getattr(reference, kind)(**arrays, step_count=t, **options.formula())
    return work.params[0]
