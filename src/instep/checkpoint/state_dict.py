"""An optimizer's state as plain dicts, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from .._core import DEEPEST_NESTING, LARGEST_COUNT, Options, Storage, some
from ..arithmetic import Array, default_arithmetic
from ..storage import has_exponents, rounds_to

if TYPE_CHECKING:
    from ..optimizers import Optimizer

_INTEGER = "-?[0-9]+"
_PART = 1 << 20  # elements that are looked at together
MASTERS = ("param_low", "param_master")  # states that only parameters of 16 bits have
OTHERS = (*MASTERS, "row_steps")  # which have a shape or dtype of their own


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, too large for the params, or was written by a newer instep."""


class StateDict(TypedDict):
    """What `Optimizer.state_dict` gives, the step counts and the arrays under their place, as `spell_path` has it.

    The arrays may hold NaN and infinities, as those of a run that has diverged do.  Where no step leaves a negative
    number, in an average of squares for instance, there must be none.
    """

    rule: str
    options: dict[str, float | bool]
    groups: dict[str, dict[str, float | bool]]
    storage: dict[str, str | None]
    step_count: int
    skipped_steps: int
    finite_steps: int
    step_counts: dict[str, int]
    state: dict[str, dict[str, Array]]


def spell_path(path: tuple[Any, ...], purpose: str = "to be saved") -> str:
    """The place of an array in the nesting of the params as one string: the keys, joined by slashes.

    An integer is spelled in digits.  A string is spelled as it is, but with ``~0`` for ``~`` and ``~1`` for ``/``, as a
    JSON pointer has it (RFC 6901), and in single quotes if it is empty, starts with one, or could be taken for an
    integer.  No two places are spelled alike.  The place of an array by itself is the empty string.
    """
    return "/".join([_spell_key(key, purpose) for key in path])


def _spell_key(key: Any, purpose: str) -> str:
    if type(key) is int:
        return str(key)
    if not isinstance(key, str):
        raise TypeError(f"a key of the params must be a str or an int {purpose}, not {key!r}")
    spelled = key.replace("~", "~0").replace("/", "~1")
    try:
        spelled.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the key {key!r} of the params is not Unicode text, as it must be {purpose}") from None
    return f"'{spelled}'" if not spelled or spelled[0] == "'" or re.fullmatch(_INTEGER, spelled) else spelled


def read_path(place: str) -> tuple[str | int, ...]:
    """The path that is spelled so, if there is one."""
    return tuple(map(_read_key, place.split("/"))) if place else ()


def _read_key(spelled: str) -> str | int:
    if re.fullmatch(_INTEGER, spelled):
        return int(spelled)
    key = spelled[1:-1] if spelled.startswith("'") else spelled
    return key.replace("~1", "/").replace("~0", "~")


def check_places(places: Iterable[str]) -> None:
    """Refuse what are not the places of the arrays of one nesting, in its order."""
    places = list(places)
    nesting: dict[str | int, Any] = {}
    for place in places:
        if place.count("/") >= DEEPEST_NESTING:
            raise ValueError(f"an array is nested deeper than {DEEPEST_NESTING} levels")
        branch = nesting
        for key in read_path(place):
            branch = branch.setdefault(key, {})
    if list(map(spell_path, _leaves(nesting, ()))) != places:
        raise ValueError("no params have their arrays at these places in this order")


def _leaves(nesting: dict[str | int, Any], path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if not nesting:
        yield path
    for key, branch in nesting.items():
        yield from _leaves(branch, (*path, key))


def state_dict_of(optimizer: Optimizer) -> StateDict:
    """Between two steps; the arrays are copies."""
    paths = [spell_path(path) for path in optimizer._paths]
    options, states, step_count, counts, groups, (skipped, finite) = optimizer._snapshot()
    return {
        "rule": options.rule,
        "options": options.values(),
        "groups": groups,
        "storage": optimizer._storage.values(),
        "step_count": step_count,
        "skipped_steps": skipped,
        "finite_steps": finite,
        "step_counts": dict(zip(paths, counts, strict=True)),
        "state": {name: dict(zip(paths, arrays, strict=True)) for name, arrays in states.items()},
    }


def check(state_dict: StateDict) -> Options:
    """Its options, if it is complete and agrees with itself.  To be called in the default arithmetic."""
    _check_keys("state_dict", state_dict, StateDict.__annotations__)
    rule, state = state_dict["rule"], state_dict["state"]
    if not isinstance(rule, str):
        raise TypeError(f"rule must be a str, not {rule!r}")
    options = Options(rule)
    _check_keys("options", state_dict["options"], options.values())
    options = options.replace(state_dict["options"], (np.float64,))  # there may be no array to say of which dtype
    _check_dict("groups", state_dict["groups"])
    for pattern, changes in state_dict["groups"].items():
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern of groups must be a str, not {pattern!r}")
        _check_dict(f"groups[{pattern!r}]", changes)
        options.replace(changes, (np.float64,))
    _check_keys("storage", state_dict["storage"], Storage().values())
    storage = Storage(**state_dict["storage"])
    _check_keys("state", state, storage.names(options))
    _check_dict("step_counts", state_dict["step_counts"])
    for name, arrays in state.items():
        _check_keys(f"state[{name!r}]", arrays, state_dict["step_counts"])
    totals = (state_dict["step_count"], state_dict["skipped_steps"], state_dict["finite_steps"])
    for count in (*totals, *state_dict["step_counts"].values()):
        if type(count) is not int or not 0 <= count <= LARGEST_COUNT:
            raise ValueError(f"a step count must be an integer from 0 to {LARGEST_COUNT}, not {count!r}")
    for path, count in state_dict["step_counts"].items():
        if count > state_dict["step_count"]:
            raise ValueError(f"the array {path!r} cannot have taken {count} of {state_dict['step_count']} steps")
    dtypes = set()
    for path in state_dict["step_counts"]:
        for name, arrays in state.items():
            if type(arrays[path]) not in (np.ndarray, np.memmap):
                raise TypeError(f"state[{name!r}][{path!r}] must be a numpy.ndarray, not {type(arrays[path]).__name__}")
        kinds = {(arrays[path].shape, arrays[path].dtype) for name, arrays in state.items() if name not in OTHERS}
        kinds = {(shape, np.dtype(np.uint8) if dtype == np.int8 else dtype) for shape, dtype in kinds}
        if len(kinds) > (1 if storage.state_dtype is None else 2):  # of which the other is that of the average
            raise ValueError(f"the state arrays of {path!r} differ in shape or dtype")
        dtypes |= {dtype if dtype.kind == "f" else np.dtype(np.float32) for _, dtype in kinds}
    for dtype in dtypes:
        options.replace({}, (dtype,))
    for name, arrays in state.items():
        for path, array in arrays.items():
            check_numbers(f"state[{name!r}][{path!r}]", options, name, array, state_dict["step_counts"][path])
    return options


@default_arithmetic
def check_numbers(what: str, options: Options, name: str, array: Array, step_count: int) -> None:
    """Refuse a state array with numbers that no step leaves there; part by part, for it may be larger than memory."""
    if array.dtype in (np.uint8, np.int8):
        if not has_exponents(array):
            raise ValueError(f"{what} holds an exponent that no step leaves there")
        return
    if name != "row_steps" and name not in options.never_negative:
        return
    flat = array.reshape(-1, order="A")
    for begin in range(0, flat.size, _PART):
        part = flat[begin : begin + _PART]
        if name == "row_steps":
            if ((part < 0) | (part > step_count)).any():
                raise ValueError(f"{what} holds a number that is not of a step that was taken")
        elif (part < 0).any():
            raise ValueError(f"{what} holds a negative number, which no step leaves there")


@default_arithmetic
def check_master(what: str, master: Array, param: Array) -> None:
    """Refuse a master that is not its parameter but for the rounding: the next step would write it over that."""
    flat, stored = master.reshape(-1, order="A"), param.reshape(-1, order="A")
    for begin in range(0, flat.size, _PART):
        if not rounds_to(flat[begin : begin + _PART], stored[begin : begin + _PART]).all():
            raise ValueError(f"{what} is not its parameter in float32, which a step would lose: copy that into it")


@default_arithmetic
def restore(optimizer: Optimizer, state_dict: StateDict) -> None:
    """Make it the optimizer's state, if all of it fits."""
    options = check(state_dict)
    if options.rule != optimizer.rule:
        raise ValueError(f"the state is of {options.rule}, the optimizer of {optimizer.rule}")
    for name, value in optimizer._storage.values().items():
        if state_dict["storage"][name] != value:
            raise ValueError(f"the state is of {name}={state_dict['storage'][name]!r}, the optimizer of {value!r}")
    paths = [spell_path(path) for path in optimizer._paths]
    lacking = [path for path in paths if path not in state_dict["step_counts"]]
    if lacking:
        raise ValueError(f"the state is of other params: it lacks {some(lacking)}")
    expected = set(paths)
    unknown = [path for path in state_dict["step_counts"] if path not in expected]
    if unknown:
        raise ValueError(f"the state is of other params: it has {some(unknown)}")
    states = optimizer._first_states(options, dict(state_dict["groups"]))
    for name, arrays in states.items():
        for path, array in zip(paths, arrays, strict=True):
            saved = state_dict["state"][name][path]
            if saved.shape != array.shape:
                raise ValueError(f"state[{name!r}][{path!r}] has shape {saved.shape}, the parameter {array.shape}")
            if saved.dtype != array.dtype:
                raise ValueError(f"state[{name!r}][{path!r}] has dtype {saved.dtype}, the parameter {array.dtype}")
            array[...] = saved
    history = (state_dict["skipped_steps"], state_dict["finite_steps"])
    counts = [state_dict["step_counts"][path] for path in paths]
    step_count, groups = state_dict["step_count"], state_dict["groups"]
    optimizer._adopt(options, states, step_count, counts, groups=groups, history=history)


def _check_dict(what: str, found: Any) -> None:
    if not isinstance(found, dict):
        raise TypeError(f"{what} must be a dict, not {type(found).__name__}")


def _check_keys(what: str, found: Any, expected: Iterable[str]) -> None:
    _check_dict(what, found)
    expected = dict.fromkeys(expected)
    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    if missing:
        raise ValueError(f"{what} lacks {some(missing)}")
    if unknown:
        raise ValueError(f"{what} has {some(unknown)}, which is not expected there")
