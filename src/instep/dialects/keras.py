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
_CLIPS: dict[str, Name] = dict(clip_norm="clipnorm", clip_value="clipvalue", clip_global_norm="global_clipnorm")
_DECOUPLED: dict[str, Any] = dict(decoupled_weight_decay=True)
_BETAS: dict[str, Name] = dict(beta1="beta_1", beta2="beta_2")
_ADAM: dict[str, Name] = _COMMON | _BETAS | dict(eps="epsilon", amsgrad="amsgrad")
_OPTIONAL = ("weight_decay",)
_ADAM_STATES = dict(grad_avg="momentum", square_avg="velocity", max_square_avg="velocity_hat")

_RULES: dict[str, Dialect] = {
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
        refused={("beta1", False): "refuses beta_1=0"},
    ),
}

# Every optimizer takes these too, and makes the average first.
DIALECTS: Dialects = {
    "keras": {
        rule: dialect._replace(
            states={"param_avg": "average", **dialect.states},
            optional=(*dialect.optional, *_CLIPS),
            around=_CLIPS,
            otherwise=("grad_scale", "average_decay"),
        )
        for rule, dialect in _RULES.items()
    }
}

# Those that make the first two states variable by variable, and not state by state.
_FIRST_TWO_TOGETHER = ("adam", "adadelta")
# What a configuration says beside the options of the dialect; `_otherwise` reads all but the first.
_BESIDE = (
    "name",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


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
        the learning rate, accumulates gradients or overwrites the parameters with their average, for which there is no
        option here; or the variables are not those of such an optimizer over such parameters.

    Notes
    -----
    ``clipnorm``, ``clipvalue`` and ``global_clipnorm`` become `clip_norm`, `clip_value` and `clip_global_norm`, which
    come at the same place: after the scale, before weight decay and rule.  ``ema_momentum`` becomes `average_decay` if
    ``use_ema``; in Keras, the average of a parameter without a gradient moves on.  ``loss_scale_factor`` becomes its
    reciprocal, `grad_scale`, which is exact for a power of two, and else a rounding away.  Gradients that are not
    finite are another matter: a norm that is not makes every element a NaN in Keras.
    """
    theirs = counterpart(cls, "Keras")
    _check_config(theirs, config)
    if not isinstance(variables, Iterable):
        raise ValueError(f"these are not the variables of a {theirs}, but a {type(variables).__name__}")
    variables = list(variables)
    none = {key: 0.0 for key in ("weight_decay", *_keys(_CLIPS)) if config[key] is None}
    options = theirs.options_here({**config, **none})
    optimizer = cls(params, **options | _otherwise(theirs, config))
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
    count = theirs.steps_taken(taken, "iteration")
    arrays: dict[str, dict[str, Any]] = {place: {} for place in places}
    for (name, place), value in zip(order, states, strict=True):
        if count or name != "param_avg":  # which Keras starts at 0 and does not read before there is one
            arrays[place][name] = value
    return theirs.arrive(optimizer, arrays, dict.fromkeys(places, count))


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
    config |= {key: config[key] or None for key in _keys(_CLIPS)}
    if ours["options"]["average_decay"]:
        config |= {"use_ema": True, "ema_momentum": ours["options"]["average_decay"]}
    if ours["options"]["grad_scale"] != 1:
        config["loss_scale_factor"] = 1 / ours["options"]["grad_scale"]
    arrays = theirs.arrays_there(optimizer, ours)
    values = [np.array(ours["step_count"]), np.array(ours["options"]["lr"])]
    return config, values + [arrays[place][name] for name, place in _order(theirs, theirs.states(ours), list(arrays))]


def _check_config(theirs: Counterpart, config: Mapping[str, Any]) -> None:
    """Refuse what is not the configuration of such an optimizer, or one that does what there is no option for."""
    wrong = f"this is not the configuration of a keras.optimizers.{theirs.cls.__name__}"
    if not isinstance(config, Mapping):
        raise ValueError(f"{wrong}, but a {type(config).__name__}")
    names = _keys(theirs.dialect.all_names)
    for key in names:
        if key not in config:
            raise ValueError(f"{wrong}: it has no {key}")
    called = re.sub(r"_\d+$", "", str(config.get("name"))).replace("_", "").lower()
    if called in DIALECTS["keras"] and called != theirs.cls.__name__.lower():
        raise ValueError(f"{wrong}: its name is {config['name']}")
    for key, value in config.items():
        if value and key not in names and key not in _BESIDE:
            raise ValueError(f"instep.{theirs.cls.__name__} has no counterpart for {key}={value!r:.60} of Keras")
    if not isinstance(config["learning_rate"], (int, float)):
        raise ValueError("the learning rate has a schedule and is not among the variables; assign a number first")


def _otherwise(theirs: Counterpart, config: Mapping[str, Any]) -> dict[str, Any]:
    """What Keras says of the scale of the loss and of an average of the parameters, as options of ours."""
    options: dict[str, Any] = {}
    scale, accumulated = config.get("loss_scale_factor"), config.get("gradient_accumulation_steps")
    if accumulated:
        raise ValueError(
            f"instep has no option for gradient_accumulation_steps={accumulated!r:.60} of the {theirs}, which counts "
            "every gradient as a step: call accumulate with each and step() after so many, with grad_scale for the mean"
        )
    if scale is not None:
        if not isinstance(scale, (int, float)) or not scale > 0:
            raise ValueError(f"loss_scale_factor={scale!r:.60} of the {theirs} must be greater than 0")
        options["grad_scale"] = 1 / scale
    if config.get("use_ema"):
        frequency, decay = config.get("ema_overwrite_frequency"), config["ema_momentum"]
        if frequency:
            raise ValueError(
                f"instep has no option for ema_overwrite_frequency={frequency!r:.60} of the {theirs}: after so many "
                "steps, copy state['param_avg'] to the parameters"
            )
        if decay == 0:
            raise ValueError(f"ema_momentum=0 of the {theirs}: its averages are the parameters; go on without use_ema")
        options["average_decay"] = decay
    return options


def _keys(names: Mapping[str, Name]) -> list[str]:
    return [key for key in names.values() if isinstance(key, str)]


def _order(theirs: Counterpart, names: Mapping[str, str], places: list[str]) -> Iterator[tuple[str, str]]:
    """The states, and the places of their parameters, as ``build`` makes them."""
    together = 2 if theirs.cls.rule in _FIRST_TWO_TOGETHER else 1
    averages = list(names)[: "param_avg" in names]
    first, rest = list(names)[len(averages) :][:together], list(names)[len(averages) :][together:]
    yield from ((name, place) for name in averages for place in places)
    yield from ((name, place) for place in places for name in first)
    yield from ((name, place) for name in rest for place in places)
