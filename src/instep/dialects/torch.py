"""torch.optim."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ..arithmetic import default_arithmetic
from ..optimizers import Optimizer
from . import Dialect, Dialects, Name, dialects
from .conversion import Counterpart, O, agreed, count, counterpart, departing

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
        What its ``state_dict()`` gave.  Several parameter groups must agree in their options.
    params : nesting of numpy.ndarray
        The parameters, in torch's order, for instance ``[p.detach().numpy() for p in model.parameters()]``, which share
        torch's memory.
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
    if any(other != options[0] for other in options):
        raise ValueError("the parameter groups differ in their options: make one optimizer for each")
    optimizer = cls(params, **options[0])
    ours = optimizer.state_dict()
    places = dict(zip(ours["step_counts"], _indices(groups, len(ours["step_counts"]), "this"), strict=True))
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
        the options, such as ``foreach`` or the ``initial_lr`` of a scheduler.  By default there is one group of torch's
        own defaults.

    Returns
    -------
    dict
        With tensors of its own.

    Raises
    ------
    ValueError
        torch has no optimizer of this class with these options; `like` is the state of another optimizer, or of other
        parameters.
    """
    import torch

    theirs, ours = departing(optimizer, "torch")
    counts = ours["step_counts"]
    changes = theirs.options_there(ours["options"])
    if theirs.preset[_NEWER]:
        changes[_NEWER] = True
    groups = [{"params": list(range(len(counts)))}] if like is None else _groups(theirs, like, "like")
    arrays, names = theirs.arrays_there(ours), theirs.states(ours)
    state: dict[int, dict[str, Any]] = {}
    for index, (place, taken) in zip(_indices(groups, len(counts), "like"), counts.items(), strict=True):
        found = {name: torch.from_numpy(arrays[place][ours]) for ours, name in names.items()}
        if theirs.cls.rule == _UNCOUNTED:
            # What torch makes in the first step is not dampened.
            if found and (taken or arrays[place]["momentum_buffer"].any()):
                state[index] = found
            continue
        if taken > _MOST_STEPS:
            raise ValueError(f"torch counts steps in float32, which does not hold the {taken} of {place!r}")
        state[index] = {"step": torch.tensor(float(taken), dtype=torch.float32)} | found
    return {"state": state, "param_groups": [{**group, **changes} for group in groups]}


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
