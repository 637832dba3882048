"""keras.optimizers of Keras 3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..arithmetic import Array, default_arithmetic
from ..optimizers import Optimizer
from . import Dialect, Dialects, Name
from .conversion import Counterpart, O, check_no_groups, check_one_count, counterpart, departing, plain

_COMMON: dict[str, Name] = dict(lr="learning_rate", weight_decay="weight_decay")
_DECOUPLED: dict[str, Any] = dict(decoupled_weight_decay=True)
_BETAS: dict[str, Name] = dict(beta1="beta_1", beta2="beta_2")
_ADAM: dict[str, Name] = _COMMON | _BETAS | dict(eps="epsilon", amsgrad="amsgrad")
_OPTIONAL = ("weight_decay",)
_ADAM_STATES = dict(grad_avg="momentum", square_avg="velocity", max_square_avg="velocity_hat")

DIALECTS: Dialects = {
    "keras": {
        "rmsprop": Dialect(
            preset=dict(lr=1e-3, rho=0.9, eps=1e-7, eps_inside=True, lr_in_momentum=True) | _DECOUPLED,
            names=_COMMON | dict(rho="rho", eps="epsilon", momentum="momentum", centered="centered"),
            states=dict(square_avg="velocity", momentum_buffer="momentum", grad_avg="average_gradient"),
            optional=_OPTIONAL,
        ),
        "sgd": Dialect(
            preset=dict(lr=1e-2, lr_in_momentum=True) | _DECOUPLED,
            names=_COMMON | dict(momentum="momentum", nesterov="nesterov"),
            states=dict(momentum_buffer="-momentum"),
            optional=_OPTIONAL,
        ),
        "adagrad": Dialect(
            preset=dict(lr=1e-3, eps=1e-7, eps_inside=True, initial_square_sum=0.1) | _DECOUPLED,
            names=_COMMON | dict(eps="epsilon", initial_square_sum="initial_accumulator_value"),
            states=dict(square_sum="accumulator"),
            optional=_OPTIONAL,
        ),
        "adam": Dialect(
            preset=dict(lr=1e-3, eps=1e-7, eps_hat=True) | _DECOUPLED,
            names=_ADAM,
            states=_ADAM_STATES,
            optional=_OPTIONAL,
        ),
        "adamw": Dialect(
            preset=dict(lr=1e-3, eps=1e-7, eps_hat=True, weight_decay=4e-3),
            names=_ADAM,
            states=_ADAM_STATES,
        ),
        "adadelta": Dialect(
            preset=dict(lr=1e-3, rho=0.95, eps=1e-7) | _DECOUPLED,
            names=_COMMON | dict(rho="rho", eps="epsilon"),
            states=dict(square_avg="accumulated_grad", square_update_avg="accumulated_delta_var"),
            optional=_OPTIONAL,
        ),
        "lion": Dialect(
            preset=dict(lr=1e-3) | _DECOUPLED,
            names=_COMMON | _BETAS,
            states=dict(grad_avg="momentum"),
            optional=_OPTIONAL,
        ),
    }
}

# Those that make the first two states variable by variable, and not state by state.
_FIRST_TWO_TOGETHER = ("adam", "adadelta")
# What a configuration says beside the options, without changing a step.
_HARMLESS = ("name", "ema_momentum", "ema_overwrite_frequency")


@default_arithmetic
def from_keras(cls: type[O], config: Mapping[str, Any], variables: Sequence[Any], params: Any) -> O:
    """Go on from an optimizer of ``keras.optimizers`` of Keras 3.

    Parameters
    ----------
    cls : type
        The class that goes on, `instep.Adam` for a ``keras.optimizers.Adam``.
    config : dict
        What its ``get_config()`` gave.
    variables : sequence
        Its ``variables``, built, or arrays of their values, in the same order.
    params : nesting of numpy.ndarray
        The values of the trainable variables, in Keras's order.

    Returns
    -------
    Optimizer
        A `cls`.  Its `lr` is the value of Keras's variable, which has 32 bits by default.  It decays every parameter:
        what ``exclude_from_weight_decay`` left out is not in the configuration.

    Raises
    ------
    TypeError
        `cls` is not a class of optimizers; `params` is not as for the class.
    ValueError
        Keras has no such optimizer; the configuration is that of another one, as far as it shows, has a schedule for
        the learning rate, or clips, accumulates, averages or scales, for which there is no option here; or the
        variables are not those of such an optimizer over such parameters.
    """
    theirs = counterpart(cls, "Keras")
    _check_config(theirs, config)
    if not isinstance(variables, Iterable):
        raise ValueError(f"these are not the variables of a {theirs}, but a {type(variables).__name__}")
    variables = list(variables)
    decay = config["weight_decay"]
    options = theirs.options_here({**config, "weight_decay": 0.0 if decay is None else decay})
    optimizer = cls(params, **options)
    ours = optimizer.state_dict()
    places, names = list(ours["step_counts"]), theirs.states(ours)
    order = list(_order(theirs, names, places))
    if len(variables) != 2 + len(order):
        made = ", ".join(names.values())
        raise ValueError(
            f"there are {len(variables)} variables; a {theirs} needs {2 + len(order)}: iteration, learning_rate"
            + (f", and {made} of {len(places)} parameters" if made else "")
        )
    taken, lr, *states = (getattr(variable, "value", variable) for variable in variables)
    try:
        optimizer.lr = plain(lr)
    except (TypeError, ValueError) as error:
        raise ValueError(f"learning_rate of the {theirs}: {error}") from None
    arrays: dict[str, dict[str, Any]] = {place: {} for place in places}
    for (name, place), value in zip(order, states, strict=True):
        arrays[place][name] = value
    return theirs.arrive(optimizer, arrays, dict.fromkeys(places, theirs.steps_taken(taken, "iteration")))


@default_arithmetic
def to_keras(optimizer: Optimizer) -> tuple[dict[str, Any], list[Array]]:
    """What makes an optimizer of ``keras.optimizers`` of Keras 3 that goes on from here.

    ::

        config, values = instep.interchange.to_keras(optimizer)
        theirs = keras.optimizers.Adam(**config)
        theirs.build(trainable_variables)
        for variable, value in zip(theirs.variables, values, strict=True):
            variable.assign(value)

    Parameters
    ----------
    optimizer : Optimizer
        Of a class that Keras has.

    Returns
    -------
    config : dict
        The arguments.
    values : list of numpy.ndarray
        The values of its variables, in their order.

    Raises
    ------
    ValueError
        Keras has no optimizer of this class with these options, or it would need a count of steps for each array, or
        options of some arrays, or more than 16 bits of a parameter.
    """
    theirs, ours = departing(optimizer, "Keras")
    check_no_groups(ours, "Keras")
    check_one_count(ours, "Keras")
    config = theirs.options_there(ours["options"])
    if not config["weight_decay"] and not theirs.preset["weight_decay"]:  # an AdamW takes no None
        config["weight_decay"] = None
    arrays = theirs.arrays_there(optimizer, ours)
    values = [np.array(ours["step_count"]), np.array(ours["options"]["lr"])]
    return config, values + [arrays[place][name] for name, place in _order(theirs, theirs.states(ours), list(arrays))]


def _check_config(theirs: Counterpart, config: Mapping[str, Any]) -> None:
    """Refuse what is not the configuration of such an optimizer, or one that does what there is no option for."""
    wrong = f"this is not the configuration of a keras.optimizers.{theirs.cls.__name__}"
    if not isinstance(config, Mapping):
        raise ValueError(f"{wrong}, but a {type(config).__name__}")
    names = {key for key in theirs.dialect.names.values() if isinstance(key, str)}
    for key in names:
        if key not in config:
            raise ValueError(f"{wrong}: it has no {key}")
    called = re.sub(r"_\d+$", "", str(config.get("name"))).replace("_", "").lower()
    if called in DIALECTS["keras"] and called != theirs.cls.__name__.lower():
        raise ValueError(f"{wrong}: its name is {config['name']}")
    for key, value in config.items():
        if value and key not in names and key not in _HARMLESS:
            raise ValueError(f"instep.{theirs.cls.__name__} has no counterpart for {key}={value!r:.60} of Keras")
    if not isinstance(config["learning_rate"], (int, float)):
        raise ValueError("the learning rate has a schedule and is not among the variables; assign a number first")


def _order(theirs: Counterpart, names: Mapping[str, str], places: list[str]) -> Iterator[tuple[str, str]]:
    """The states, and the places of their parameters, as ``build`` makes them."""
    together = 2 if theirs.cls.rule in _FIRST_TWO_TOGETHER else 1
    first, rest = list(names)[:together], list(names)[together:]
    yield from ((name, place) for place in places for name in first)
    yield from ((name, place) for name in rest for place in places)
