"""optax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._core import Nest
from ..arithmetic import default_arithmetic
from ..checkpoint.state_dict import spell_path
from ..optimizers import Optimizer
from . import Dialect, Dialects, Given, Name
from .conversion import Counterpart, O, agreed, check_like, check_no_groups, check_one_count, counterpart, departing

_LR: dict[str, Name] = dict(lr="learning_rate")
_BETAS: dict[str, Name] = dict(beta1="b1", beta2="b2")
_ADAM: dict[str, Name] = _LR | _BETAS | dict(eps="eps", eps_root="eps_root", nesterov="nesterov")
_ADAM_STATES = dict(grad_avg="mu", square_avg="nu", max_square_avg="nu_max")
_AMSGRAD: dict[Given, dict[str, Any]] = {("amsgrad", True): dict(amsgrad_corrected=True)}

DIALECTS: Dialects = {
    "optax": {
        "rmsprop": Dialect(
            preset=dict(rho=0.9, eps=1e-8, eps_inside=True, lr_in_momentum=True),
            names=_LR
            | dict(
                rho="decay",
                eps="eps",
                initial_square_avg="initial_scale",
                eps_inside="eps_in_sqrt",
                centered="centered",
                momentum="momentum",
                nesterov="nesterov",
                bias_correction="bias_correction",
            ),
            states=dict(square_avg="nu", grad_avg="mu", momentum_buffer="-trace"),
            optional=("momentum",),
        ),
        "sgd": Dialect(
            preset=dict(),
            names=_LR | dict(momentum="momentum", nesterov="nesterov"),
            states=dict(momentum_buffer="trace"),
            optional=("momentum",),
        ),
        "adagrad": Dialect(
            preset=dict(eps=1e-7, eps_inside=True, initial_square_sum=0.1),
            names=_LR | dict(eps="eps", initial_square_sum="initial_accumulator_value"),
            states=dict(square_sum="sum_of_squares"),
        ),
        "adam": Dialect(  # and optax.amsgrad
            preset=dict(),
            names=_ADAM | dict(amsgrad="amsgrad"),
            states=_ADAM_STATES,
            implied=_AMSGRAD,
        ),
        "adamw": Dialect(
            preset=dict(weight_decay=1e-4),
            names=_ADAM | dict(weight_decay="weight_decay"),
            states=_ADAM_STATES,
            implied=_AMSGRAD,
        ),
        "yogi": Dialect(
            preset=dict(eps=1e-3, initial_grad_avg=1e-6, initial_square_avg=1e-6),
            names=_LR | _BETAS | dict(eps="eps"),
            states=dict(grad_avg="mu", square_avg="nu"),
        ),
        "adadelta": Dialect(
            preset=dict(rho=0.9, eps=1e-6),  # without a learning rate it climbs
            names=_LR | dict(rho="rho", eps="eps", weight_decay="weight_decay"),
            states=dict(square_avg="e_g", square_update_avg="e_x"),
        ),
        "lion": Dialect(
            preset=dict(weight_decay=1e-3, decoupled_weight_decay=True),
            names=_LR | _BETAS | dict(weight_decay="weight_decay"),
            states=dict(grad_avg="mu"),
        ),
    }
}

# What the states of the chains' links are called.
_RATE = ("EmptyState", "ScaleByScheduleState")
_DECAY = ("EmptyState", "WeightDecaySchedule")
_TRACE = ("EmptyState", "TraceState")
_RMS = ("ScaleByRmsState", "ScaleByRmsWithCountState", "ScaleByRStdDevState", "ScaleByRStdDevWithCountState")
_CHAINS = {
    "rmsprop": (_RMS, _RATE, _TRACE),
    "sgd": (_TRACE, _RATE),
    "adagrad": (("ScaleByRssState",), _RATE),
    "adam": (("ScaleByAdamState", "ScaleByAmsgradState"), _RATE),
    "adamw": (("ScaleByAdamState",), _DECAY, _RATE),
    "yogi": (("ScaleByAdamState",), _RATE),
    "adadelta": (_DECAY, ("ScaleByAdaDeltaState",), _RATE),
    "lion": (("ScaleByLionState",), _DECAY, _RATE),
}


@default_arithmetic
def from_optax(cls: type[O], state: Any, params: Any, *, step_count: int | None = None, **options: Any) -> O:
    """Go on from an optimizer of ``optax``.

    Parameters
    ----------
    cls : type
        The class that goes on, `instep.Adam` for an ``optax.adam`` or ``optax.amsgrad``.
    state : tuple
        The state that its ``update`` returned last.
    params : nesting of numpy.ndarray
        In the nesting that optax has them in.
    step_count : int
        How many steps have been taken; needed where the state does not count them.
    **options
        Those of `cls` under their names here or in optax, for an optax state has none of them.  Those not given are
        optax's defaults, as in the preset ``"optax"``; `lr` must be given, and `momentum`, `centered`, `amsgrad` and
        `bias_correction` as the state has them.

    Returns
    -------
    Optimizer
        A `cls`.

    Raises
    ------
    TypeError
        `lr` or `step_count` is missing; `cls` is not a class of optimizers.
    ValueError
        optax has no such optimizer; the state is not one of these options over such parameters.
    """
    theirs = counterpart(cls, "optax")
    optimizer = cls(params, **theirs.in_full(options))
    _check(theirs, optimizer.options)
    ours = optimizer.state_dict()
    trees = _trees(theirs, theirs.states(ours), state, set(ours["step_counts"]))
    taken = agreed([theirs.steps_taken(link.count, "count") for link in state if "count" in link._fields], step_count)
    if taken is None:
        raise TypeError("this state does not count its steps: give step_count")
    arrays = {place: {name: leaves[place] for name, (_, leaves) in trees.items()} for place in ours["step_counts"]}
    return theirs.arrive(optimizer, arrays, dict.fromkeys(arrays, taken))


@default_arithmetic
def to_optax(optimizer: Optimizer, state: Any) -> Any:
    """The state with which an optimizer of ``optax`` goes on from here.

    Parameters
    ----------
    optimizer : Optimizer
        Of a class that optax has.  An `instep.Adam` whose weight decay is decoupled goes on as an ``optax.adamw``, and
        with `amsgrad` as an ``optax.amsgrad``.
    state : tuple
        What ``init`` of the optax optimizer gives for params of the same nesting.  Its options cannot be seen in it and
        are the caller's to make the same; one without momentum has ``momentum=None``.

    Returns
    -------
    tuple
        `state` with the values of `optimizer`, as NumPy arrays.

    Raises
    ------
    ValueError
        optax has no optimizer of this class with these options, or `state` is not one of them over arrays of these
        shapes and dtypes; or it would need a count of steps for each array, or options of some arrays, or more than 16
        bits of a parameter.
    """
    theirs, ours = departing(optimizer, "optax")
    _check(theirs, ours["options"])
    check_no_groups(ours, "optax")
    check_one_count(ours, "optax")
    names = theirs.states(ours)
    trees = _trees(theirs, names, state, set(ours["step_counts"]))
    params = dict(zip(ours["step_counts"], optimizer._leaves, strict=True))
    for name, (_, leaves) in trees.items():
        for place, leaf in leaves.items():
            check_like(leaf, params[place], f"{names[name]} of {place!r} in the {theirs}")
    arrays = theirs.arrays_there(optimizer, ours)
    built = {names[name]: nest.build([arrays[at][name] for at in leaves]) for name, (nest, leaves) in trees.items()}
    filled = []
    for link in state:
        changes = {field: built[field] for field in link._fields if field in built}
        if "count" in link._fields:
            dtype = np.asarray(link.count).dtype
            if ours["step_count"] > np.iinfo(dtype).max:
                raise ValueError(f"optax counts steps in {dtype}, which does not hold {ours['step_count']}")
            changes["count"] = np.asarray(ours["step_count"], dtype)
        filled.append(link._replace(**changes))
    return tuple(filled)


def _check(theirs: Counterpart, options: Mapping[str, Any]) -> None:
    theirs.check(options)
    if options.get("amsgrad") and options["nesterov"]:  # scale_by_amsgrad is another link than scale_by_adam
        raise ValueError(f"optax has no {theirs.cls.__name__} with amsgrad=True and nesterov=True")


def _trees(
    theirs: Counterpart, names: Mapping[str, str], state: Any, places: set[str]
) -> dict[str, tuple[Nest, dict[str, Any]]]:
    """The trees in the state of the chain, by our name: the nesting, and the leaves by place in its order."""
    rule = theirs.cls.__name__.lower()
    chain = _CHAINS[rule]
    if (
        not isinstance(state, tuple)
        or len(state) != len(chain)
        or any(type(link).__name__ not in kinds for link, kinds in zip(state, chain, strict=True))
    ):
        links = " then ".join(" or ".join(kinds) for kinds in chain)
        raise ValueError(f"this is not the state of an optax.{rule}, which is {links}")
    found = {field: getattr(link, field) for link in state for field in link._fields if field != "count"}
    if set(found) != set(names.values()):
        raise ValueError(
            f"the optax state has {', '.join(found) or 'no arrays'}, the options of {theirs.cls.__name__} need "
            f"{', '.join(names.values()) or 'none'}"
        )
    trees: dict[str, tuple[Nest, dict[str, Any]]] = {}
    for name, field in names.items():
        leaves: list[Any] = []
        paths: list[tuple[Any, ...]] = []
        nest = Nest.of(found[field], leaves, paths)
        trees[name] = (nest, dict(zip(map(spell_path, paths), leaves, strict=True)))
        if set(trees[name][1]) != places:
            raise ValueError(f"{field} of the optax state has another nesting than the params")
    return trees
