"""torch.optim."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from .._core import Nest
from ..arithmetic import default_arithmetic
from ..checkpoint.state_dict import spell_path
from ..optimizers import Optimizer
from . import Dialect, Dialects, Name, dialects
from .conversion import Counterpart, O, agreed, by_place, count, counterpart, departing

_BETAS: dict[str, Name] = dict(beta1=("betas", 0), beta2=("betas", 1))
_COMMON: dict[str, Name] = dict(lr="lr", weight_decay="weight_decay", maximize="maximize")
_ADAM: dict[str, Name] = _COMMON | _BETAS | dict(eps="eps", amsgrad="amsgrad")
_ADAM_STATES = dict(grad_avg="exp_avg", square_avg="exp_avg_sq", max_square_avg="max_exp_avg_sq")

DIALECTS: Dialects = {
    "torch": {
        "rmsprop": Dialect(
            preset=dict(lr=1e-2, rho=0.99, eps=1e-8),
            names=_COMMON | dict(rho="alpha", eps="eps", momentum="momentum", centered="centered"),
            states=dict(square_avg="square_avg", momentum_buffer="momentum_buffer", grad_avg="grad_avg"),
        ),
        "sgd": Dialect(
            preset=dict(lr=1e-3),
            names=_COMMON | dict(momentum="momentum", dampening="dampening", nesterov="nesterov"),
            states=dict(momentum_buffer="momentum_buffer"),
        ),
        "adagrad": Dialect(
            preset=dict(lr=1e-2, eps=1e-10),
            names=_COMMON | dict(lr_decay="lr_decay", eps="eps", initial_square_sum="initial_accumulator_value"),
            states=dict(square_sum="sum"),
        ),
        "adam": Dialect(
            preset=dict(lr=1e-3),
            names=_ADAM | dict(decoupled_weight_decay="decoupled_weight_decay"),
            states=_ADAM_STATES,
        ),
        "adamw": Dialect(preset=dict(lr=1e-3, weight_decay=1e-2), names=_ADAM, states=_ADAM_STATES),
        "adadelta": Dialect(
            preset=dict(lr=1.0, rho=0.9, eps=1e-6),
            names=_COMMON | dict(rho="rho", eps="eps"),
            states=dict(square_avg="square_avg", square_update_avg="acc_delta"),
        ),
        "rprop": Dialect(
            preset=dict(lr=1e-2),
            names=dict(
                lr="lr",
                eta_minus=("etas", 0),
                eta_plus=("etas", 1),
                step_min=("step_sizes", 0),
                step_max=("step_sizes", 1),
                maximize="maximize",
            ),
            states=dict(prev_grad="prev", step_size="step_size"),
        ),
    }
}

# Its SGD counts no steps.
_UNCOUNTED = "sgd"
# That by which an AdamW is an Adam in torch, and which older torches do not have.
_NEWER = "decoupled_weight_decay"
_MOST_STEPS = 2**24  # which float32 holds with all before it


@default_arithmetic
def from_torch(cls: type[O], state_dict: Mapping[str, Any], params: Any, *, step_count: int | None = None) -> O:
    """Go on from an optimizer of ``torch.optim``.

    Parameters
    ----------
    cls : type
        The class that goes on, `instep.Adam` for a ``torch.optim.Adam``; it may be that for an AdamW as well, which
        torch has as an Adam with `decoupled_weight_decay`.
    state_dict : dict
        What its ``state_dict()`` gave.  The options of its first parameter group become those of the optimizer.  Each
        array whose group has others becomes a group of its own, whose pattern is the place of the array.
    params : nesting of numpy.ndarray
        The parameters, in torch's order, for instance ``[p.detach().numpy() for p in model.parameters()]``, which share
        torch's memory.  Where there are several groups, the order is theirs, one after the other.
    step_count : int
        How many steps have been taken.  Only SGD needs it, which does not count them in torch: without it, a parameter
        that has a momentum has taken one step, and any other none.

    Returns
    -------
    Optimizer
        A `cls`.  A parameter that torch has never stepped has the state and the count to start with.

    Raises
    ------
    TypeError
        `cls` is not a class of optimizers; `params` is not as for the class.
    ValueError
        torch has no such optimizer; the state is that of another one, as far as it shows, or of other parameters.
    """
    theirs = counterpart(cls, "torch")
    groups = _groups(theirs, state_dict, "this")
    options = [theirs.options_here({_NEWER: theirs.preset[_NEWER], **group}) for group in groups]
    paths: list[tuple[Any, ...]] = []
    Nest.of(params, [], paths)
    places = dict(zip(map(spell_path, paths), _indices(groups, len(paths), "this"), strict=True))
    optimizer = cls(params, groups=_changes(list(places), groups, options), **options[0])
    ours = optimizer.state_dict()
    names = theirs.states(ours)
    is_counted = cls.rule != _UNCOUNTED

    arrays: dict[str, dict[str, Any]] = {}
    counts = dict.fromkeys(places, 0)
    for place, index in places.items():
        found = state_dict["state"].get(index, {})
        if not isinstance(found, Mapping):
            raise ValueError(f"the state of {place!r} in the {theirs} is a {type(found).__name__} and not a dict")
        state = {name: value for name, value in found.items() if value is not None}
        if not state:
            continue
        for name in ("step", *names.values()) if is_counted else names.values():
            if name not in state:
                raise ValueError(f"the {theirs} has no {name} of {place!r}, which the options need")
        arrays[place] = {ours: state[name] for ours, name in names.items()}
        counts[place] = theirs.steps_taken(state["step"], f"step of {place!r}") if is_counted else 1
    if is_counted:
        agreed([max(counts.values(), default=0)], step_count)
    elif step_count is not None:
        taken = count(step_count, "step_count")
        if any(counts.values()) and taken == 0:
            raise ValueError(f"the {theirs} has a momentum_buffer: it has taken one step at least, not 0")
        counts = {place: taken if place in arrays or not names else 0 for place in places}
    return theirs.arrive(optimizer, arrays, counts)


@default_arithmetic
def to_torch(optimizer: Optimizer, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an optimizer of ``torch.optim`` over the same parameters takes as its ``load_state_dict``, options included.

    Parameters
    ----------
    optimizer : Optimizer
        Of a class that torch has.
    like : dict
        The ``state_dict()`` of the optimizer that goes on.  Its parameter groups are kept, and what is in them beside
        the options, such as ``foreach`` or the ``initial_lr`` of a scheduler; the arrays of each must agree in their
        options.  By default there is one group for each set of options, in the order in which `params` has the first
        array of each; a group has its arrays in the order of `params`, and torch's own defaults for the rest.

    Returns
    -------
    dict
        With tensors of its own.

    Raises
    ------
    ValueError
        torch has no optimizer of this class with these options, those of a group included, or it would need more than
        16 bits of a parameter; `like` is the state of another optimizer, or of other parameters, or has one group for
        arrays that differ in their options.
    """
    import torch

    theirs, ours = departing(optimizer, "torch")
    counts = ours["step_counts"]
    options = {place: _options_there(theirs, options) for place, options in by_place(optimizer, ours).items()}
    if like is None:
        order, groups = _made_groups(options)
    else:
        kept = _groups(theirs, like, "like")
        order = dict(zip(_indices(kept, len(counts), "like"), counts, strict=True))
        groups = [{**group, **_shared(group["params"], order, options)} for group in kept]
    arrays, names = theirs.arrays_there(optimizer, ours), theirs.states(ours)
    state: dict[Any, dict[str, Any]] = {}
    for index, place in order.items():
        taken = counts[place]
        found = {name: torch.from_numpy(arrays[place][ours]) for ours, name in names.items()}
        if theirs.cls.rule == _UNCOUNTED:
            # What torch makes in the first step is not dampened.
            if found and (taken or arrays[place]["momentum_buffer"].any()):
                state[index] = found
            continue
        if taken > _MOST_STEPS:
            raise ValueError(f"torch counts steps in float32, which does not hold the {taken} of {place!r}")
        state[index] = {"step": torch.tensor(float(taken), dtype=torch.float32)} | found
    return {"state": state, "param_groups": groups}


def _options_there(theirs: Counterpart, ours: Mapping[str, Any]) -> dict[str, Any]:
    return theirs.options_there(ours) | ({_NEWER: True} if theirs.preset[_NEWER] else {})


def _changes(
    places: list[str], groups: Sequence[Mapping[str, Any]], options: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Our groups: what differs from the options of the first group, by the place of the array."""
    from glob import escape

    changes = [{name: value for name, value in other.items() if value != options[0][name]} for other in options]
    each = [changed for group, changed in zip(groups, changes, strict=True) for _ in group["params"]]
    return {escape(place): changed for place, changed in zip(places, each, strict=True) if changed}


def _made_groups(options: Mapping[str, dict[str, Any]]) -> tuple[dict[Any, str], list[dict[str, Any]]]:
    """The places by torch's number for them, which follows the groups, and a group for each set of options."""
    found: list[tuple[dict[str, Any], list[str]]] = []
    for place, wanted in options.items():
        together = next((places for shared, places in found if shared == wanted), None)
        if together is None:
            together = []
            found.append((wanted, together))
        together.append(place)
    order: dict[Any, str] = {}
    groups: list[dict[str, Any]] = []
    for shared, places in found:
        groups.append({"params": list(range(len(order), len(order) + len(places))), **shared})
        order |= zip(groups[-1]["params"], places, strict=True)
    return order, groups


def _shared(indices: Sequence[Any], order: Mapping[Any, str], options: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The options of the arrays of one group of torch's, which must agree; none of none."""
    if not indices:
        return {}
    first, *others = [order[index] for index in indices]
    for other in others:
        for name, value in options[other].items():
            if value != options[first][name]:
                raise ValueError(
                    f"{first!r} has {name}={options[first][name]!r} and {other!r} has {value!r}, but they are in one "
                    "group of like"
                )
    return options[first]


def _groups(theirs: Counterpart, state_dict: Mapping[str, Any], what: str) -> Sequence[Mapping[str, Any]]:
    """The parameter groups, of which there is one at least, each with the options of such an optimizer."""
    wrong = f"{what} is not the state_dict of a torch.optim.{theirs.cls.__name__}"
    if not isinstance(state_dict, Mapping) or not isinstance(state_dict.get("state"), Mapping):
        raise ValueError(f"{wrong}: it has no state")
    groups: Sequence[Mapping[str, Any]] = state_dict.get("param_groups", ())
    if not groups or not isinstance(groups, (list, tuple)):
        raise ValueError(f"{wrong}: it has no param_groups")
    needed = ["params", *(key for key in _keys(theirs.dialect) if key != _NEWER)]
    relatives = [*dialects()["torch"].values(), *dialects()["timm"].values()]
    others = {key for other in relatives for key in _keys(other)}.difference(needed, [_NEWER])
    for group in groups:
        for key in needed:
            if not isinstance(group, Mapping) or key not in group:
                raise ValueError(f"{wrong}: its groups have no {key}")
        if not isinstance(group["params"], (list, tuple)):
            raise ValueError(f"{wrong}: the params of a group are a {type(group['params']).__name__}")
        for key in group:
            if key in others:
                raise ValueError(f"{wrong}: its groups have {key}")
        if _NEWER not in theirs.dialect.names and group.get(_NEWER, theirs.preset[_NEWER]) != theirs.preset[_NEWER]:
            raise ValueError(f"{wrong}: its groups have {_NEWER}={group[_NEWER]!r}")
    return groups


def _indices(groups: Sequence[Mapping[str, Any]], number: int, what: str) -> list[Any]:
    """The parameters of the groups, as the state is keyed with them."""
    found = [index for group in groups for index in group["params"]]
    if len(found) != number:
        raise ValueError(f"{what} is the state of {len(found)} parameters, the optimizer's are {number}")
    if not all(isinstance(index, Hashable) for index in found) or len(set(found)) != number:
        raise ValueError(f"{what} is a state whose groups do not name each parameter once: {found!r:.60}")
    return found


def _keys(dialect: Dialect) -> list[str]:
    return [key if isinstance(key, str) else key[0] for key in dialect.names.values()]
