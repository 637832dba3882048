"""What runs that move to and from the frameworks have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .. import storage
from .._core import LARGEST_COUNT
from ..arithmetic import Array
from ..checkpoint.state_dict import MASTERS, OTHERS, StateDict
from ..groups import options_of_arrays
from ..optimizers import Optimizer
from ..rules.momentum import move_lr
from ..rules.rmsprop import square_avg_of, variance_of
from . import Dialect, _rule_of, default_options, dialects, family, preset_options

O = TypeVar("O", bound=Optimizer)  # noqa: E741, that of the signatures

# The state arrays by place and by our name for them.
Arrays = dict[str, dict[str, Array]]

# Options that change nothing while another is off.
IDLE_WITHOUT = {
    "nesterov": "momentum",
    "lr_in_momentum": "momentum",
    "dampening": "momentum",
    "dampen_first": "dampening",
    "decoupled_weight_decay": "weight_decay",
    "amsgrad_corrected": "amsgrad",
    "eps_hat": "bias_correction",
}
# The one that goes without the other, and says what that does once it is turned on.
KEPT = "decoupled_weight_decay"


class Counterpart(NamedTuple):
    """What a framework has for a class of ours."""

    framework: str
    cls: type[Optimizer]
    dialect: Dialect
    preset: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.framework} {self.cls.__name__}"

    def options_here(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """All of our options, from those that it has, under its names."""
        ours: dict[str, Any] = {}
        for name, key in self.dialect.all_names.items():
            try:
                ours[name] = plain(theirs[key] if isinstance(key, str) else theirs[key[0]][key[1]])
            except (LookupError, TypeError):
                ours[name] = None
            if ours[name] is None:
                raise ValueError(f"{name} cannot be read from the {self}: {theirs!r:.200}")
        return self.in_full({name: value for name, value in ours.items() if name == KEPT or not _is_idle(name, ours)})

    def options_there(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Those that it has, under its names."""
        theirs: dict[str, Any] = {}
        for name, key in self.dialect.all_names.items():
            if isinstance(key, str):
                theirs[key] = ours[name]
            else:  # the items of a tuple stand in their order
                theirs[key[0]] = (*theirs.get(key[0], ()), ours[name])
        return theirs

    def in_full(self, options: dict[str, Any]) -> dict[str, Any]:
        """All of our options, where these are given under either name."""
        return preset_options(self.cls, self.framework.lower(), options)

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that it does not have, but where they change nothing."""
        for name, value in options.items():
            if (name, bool(value)) in self.dialect.refused:
                raise ValueError(f"{self.framework} has no {self.cls.__name__} with {name}={value!r}")
        meant = self.in_full({name: options[name] for name in self.dialect.all_names})
        for name, value in options.items():
            if value == meant[name] or name in self.dialect.otherwise or _is_idle(name, options):
                continue
            if not name.startswith("initial_") and name != "lr_in_momentum":  # made already; can be converted
                raise ValueError(f"{self.framework} has no {self.cls.__name__} with {name}={value!r}")

    def states(self, ours: StateDict) -> dict[str, str]:
        """Its names for the state that there is, by ours, in its order."""
        needed = {"square_avg" if name == "variance" else name for name in ours["state"]}
        return {name: theirs.lstrip("-") for name, theirs in self.dialect.states.items() if name in needed}

    def arrays_there(self, optimizer: Optimizer, ours: StateDict) -> Arrays:
        """The state as it has it."""
        found: Arrays = {}
        options = by_place(optimizer, ours)
        for place, param in zip(ours["step_counts"], optimizer._leaves, strict=True):
            arrays = {
                name: storage.decoded(of[place], param) for name, of in ours["state"].items() if name not in OTHERS
            }
            if "variance" in arrays:
                arrays["square_avg"] = square_avg_of(arrays.pop("variance"), arrays["grad_avg"])
            found[place] = self._signed(self._lr_moved(arrays, options[place], place, arriving=False))
        return found

    def arrive(self, optimizer: O, arrays: Mapping[str, Mapping[str, Any]], step_counts: Mapping[str, int]) -> O:
        """Let `optimizer` go on with the state as it had it; where there is none, it stays as it starts."""
        ours = optimizer.state_dict()
        options = by_place(optimizer, ours)
        for place, param in zip(ours["step_counts"], optimizer._leaves, strict=True):
            if place not in arrays:
                continue
            there = {
                name: _array(value, param, f"{self.states(ours)[name]} of {place!r} in the {self}")
                for name, value in arrays[place].items()
            }
            here = self._lr_moved(self._signed(there), options[place], place, arriving=True)
            if "variance" in ours["state"]:
                here["variance"] = variance_of(here.pop("square_avg"), here["grad_avg"])
            for name, array in here.items():
                ours["state"][name][place] = array
        ours["step_counts"] |= step_counts
        ours["step_count"] = max(step_counts.values(), default=0)
        try:
            optimizer.load_state_dict(ours)
        except ValueError as error:
            raise ValueError(f"the {self}: {error}") from None
        return optimizer

    def steps_taken(self, value: Any, what: str) -> int:
        """Its count."""
        return count(value, f"{what} in the {self}")

    def _signed(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """To its signs and back."""
        negated = {name for name, theirs in self.dialect.states.items() if theirs.startswith("-")}
        return {name: np.asarray(-array) if name in negated else array for name, array in arrays.items()}

    def _lr_moved(
        self, arrays: dict[str, Array], options: Mapping[str, Any], place: str, *, arriving: bool
    ) -> dict[str, Array]:
        """With lr in the momentum or not: as here if it is `arriving`, else as there."""
        if "momentum_buffer" not in arrays or options["lr_in_momentum"] == self.preset["lr_in_momentum"]:
            return arrays
        into = options["lr_in_momentum"] if arriving else self.preset["lr_in_momentum"]
        try:
            return arrays | {"momentum_buffer": move_lr(arrays["momentum_buffer"], options["lr"], into=into)}
        except ValueError as error:
            raise ValueError(f"momentum_buffer of {place!r} cannot go between {self} and here: {error}") from None


def counterpart(cls: type[Optimizer], framework: str) -> Counterpart:
    """What the framework has for the class."""
    if not isinstance(cls, type) or not issubclass(cls, Optimizer) or cls is Optimizer:
        raise TypeError(f"the optimizer's class comes first, such as instep.RMSprop, not {cls!r:.60}")
    rule, spoken = _rule_of(cls), dialects()[framework.lower()]
    if rule not in spoken:
        raise ValueError(f"{framework} has no {cls.__name__}; it has {', '.join(spoken)}")
    return Counterpart(framework, family()[rule], spoken[rule], default_options(rule, framework.lower()))


def departing(optimizer: Optimizer, framework: str) -> tuple[Counterpart, StateDict]:
    """What the framework has for the optimizer as it is, and its state.

    That of a variant where its own class has other options there: what `instep.load` finds of an AdamW is an Adam.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be one of instep, not a value of type {type(optimizer).__name__}")
    ours = optimizer.state_dict()
    theirs = counterpart(type(optimizer), framework)
    if optimizer._storage.state_dtype is None and all(param.itemsize > 2 for param in optimizer._leaves):
        ours["options"]["seed"] = theirs.preset["seed"]  # of random numbers that there are none of
    for name in MASTERS:
        for place, array in ours["state"].get(name, {}).items():
            if array.size:
                raise ValueError(
                    f"{framework} has no master={ours['storage']['master']!r}: what {place!r} has in "
                    f"state[{name!r}] beside its 16 bits would be lost"
                )
    try:
        _check_all(theirs, ours)
    except ValueError:
        for variant in family().values():
            if issubclass(variant, theirs.cls) and variant is not theirs.cls:
                try:
                    other = counterpart(variant, framework)
                    _check_all(other, ours)
                except ValueError:
                    continue
                return other, ours
        raise
    return theirs, ours


def _check_all(theirs: Counterpart, ours: StateDict) -> None:
    """Refuse options that the framework does not have, those of a group by the group's name."""
    theirs.check(ours["options"])
    for pattern, changes in ours["groups"].items():
        try:
            theirs.check(ours["options"] | changes)
        except ValueError as error:
            raise ValueError(f"groups[{pattern!r}]: {error}") from None


def by_place(optimizer: Optimizer, ours: StateDict) -> dict[str, dict[str, float | bool]]:
    """The options of each array, those of its group too."""
    each = options_of_arrays(optimizer._paths, ours["options"], ours["groups"])
    return dict(zip(ours["step_counts"], each, strict=True))


def check_no_groups(ours: StateDict, framework: str) -> None:
    """Refuse arrays with options of their own, where the framework has one of each for all."""
    for pattern, changes in ours["groups"].items():
        for name, value in changes.items():
            if value != ours["options"][name]:
                raise ValueError(
                    f"groups[{pattern!r}] has {name}={value!r}, the others {ours['options'][name]!r}, and {framework} "
                    "has one for all arrays"
                )


def check_one_count(ours: StateDict, framework: str) -> None:
    """Refuse arrays whose steps need a count of their own, where the framework has one for all."""
    counts = ours["options"].get("bias_correction") or ours["options"]["average_decay"]
    if counts and set(ours["step_counts"].values()) != {ours["step_count"]}:
        raise ValueError(
            f"the arrays have been stepped a different number of times, and {framework} has one count for all"
        )


def agreed(counts: Iterable[int], step_count: Any) -> int | None:
    """The number of steps that the state and the caller speak of, if any does."""
    every = {*counts} if step_count is None else {*counts, count(step_count, "step_count")}
    if len(every) > 1:
        raise ValueError(f"the counts of steps differ: {', '.join(map(str, sorted(every)))}")
    return every.pop() if every else None


def plain(value: Any) -> Any:
    """A Python number of one, or of an array of one; what is neither as it is."""
    if type(value) in (bool, int, float):
        return value
    array = _numpy(value)
    return array.item() if array.size == 1 else value


def count(value: Any, what: str) -> int:
    """A number of steps, which torch has as a floating-point number."""
    value = plain(value)
    if type(value) not in (int, float) or not 0 <= value <= LARGEST_COUNT or value != int(value):
        raise ValueError(f"{what}: {value!r:.60} is not a number of steps")
    return int(value)


def _is_idle(name: str, options: Mapping[str, Any]) -> bool:
    needed = IDLE_WITHOUT.get(name, "")
    return needed in options and not options[needed]


def check_like(value: Any, param: Array, what: str) -> None:
    """Refuse what is no array like `param`, NumPy's, a torch tensor, a Keras variable or a JAX array."""
    dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    # NumPy has no name for some of torch's.
    if dtype != str(param.dtype) and not (dtype == "float32" and param.dtype.itemsize == 2):
        raise ValueError(f"{what} is an array of {dtype}, the parameter one of {param.dtype}")
    if tuple(value.shape) != param.shape:
        raise ValueError(f"{what} has shape {tuple(value.shape)}, the parameter {param.shape}")


def _widened(numbers: Array) -> Array:
    """Those of 16 bits in float32, in which steps are computed; exact."""
    return numbers.astype(np.float32) if numbers.dtype.itemsize == 2 else numbers


def _array(value: Any, param: Array, what: str) -> Array:
    """In the dtype in which a state of the parameter is kept here."""
    check_like(value, param, what)
    try:
        return _widened(_numpy(value))
    except (TypeError, RuntimeError) as error:  # a sparse tensor, or one that is nowhere
        raise ValueError(f"{what} is no array in memory: {error}") from None


def _numpy(value: Any) -> Array:
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # of which torch makes no NumPy array
        value = value.float()
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
