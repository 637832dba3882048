"""RMSprop runs that move between instep, torch, Keras and optax in mid-training.

`from_torch`, `from_keras` and `from_optax` make an `instep.RMSprop` that goes on where the other optimizer stopped;
`to_torch`, `to_keras` and `to_optax` go back.  The parameters stay the caller's to move.  What the other side cannot
express, or would express by another formula, is refused with a ValueError.  No framework is imported but torch, by
`to_torch`.

Others name the state as follows.  Only two of them need arithmetic: the variance, by `instep.variance_of` and
`instep.square_avg_of`, and the momentum where the learning rate enters it at the other end, by one multiplication or
division with the present `lr`.

===================  ===================  ====================  ==================
instep               torch                Keras                 optax
===================  ===================  ====================  ==================
``square_avg``       ``square_avg``       velocity              ``nu``
``variance``         ``square_avg``       velocity              ``nu``
``grad_avg``         ``grad_avg``         average_gradient      ``mu``
``momentum_buffer``  ``momentum_buffer``  momentum              ``trace``, negated
===================  ===================  ====================  ==================

Positions count where the others have no names: the arrays go in the order in which the params of the instep optimizer
hold them, which must be the order of ``model.parameters()`` and of Keras's trainable variables.  optax has the nesting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._core import Nest
from .optimizers import RMSprop, move_lr
from .presets import preset_options
from .reference import Array, square_avg_of, variance_of
from .state_dict import StateDict, default_arithmetic, spell_path

__all__ = ["from_keras", "from_optax", "from_torch", "to_keras", "to_optax", "to_torch"]

# By name and place, with the average of squares whether centered or not.
Parts = dict[str, dict[str, Array]]

# ---- torch ----------------------------------------------------------------------------------------------------------

_TORCH_OPTIONS = {
    "lr": "lr",
    "rho": "alpha",
    "eps": "eps",
    "momentum": "momentum",
    "centered": "centered",
    "weight_decay": "weight_decay",
    "maximize": "maximize",
}


@default_arithmetic()
def from_torch(state_dict: Mapping[str, Any], params: Any) -> RMSprop:
    """Go on from a ``torch.optim.RMSprop``.

    Parameters
    ----------
    state_dict : dict
        What its ``state_dict()`` gave.  Several parameter groups must agree in their options.
    params : nesting of numpy.ndarray
        The parameters, in torch's order, for instance ``[p.detach().numpy() for p in model.parameters()]``, which share
        torch's memory.

    Returns
    -------
    RMSprop
        A parameter that torch has never stepped has the state and the count to start with.

    Raises
    ------
    ValueError
        It is the state of another optimizer, or of other parameters.
    """
    groups = _torch_groups(state_dict)
    options = [{ours: _plain(group[theirs]) for ours, theirs in _TORCH_OPTIONS.items()} for group in groups]
    if any(other != options[0] for other in options):
        raise ValueError("the parameter groups differ in their options: make one optimizer for each")

    optimizer = RMSprop(params, **options[0])
    ours = optimizer.state_dict()
    indices = [index for group in groups for index in group["params"]]
    places = list(ours["step_counts"])
    if len(indices) != len(places):
        raise ValueError(f"the state is of {len(indices)} parameters, params holds {len(places)}")
    stepped = {
        place: state_dict["state"][index]
        for place, index in zip(places, indices, strict=True)
        if index in state_dict["state"]
    }
    parts: Parts = {name: {} for name in _parts(ours, lr_in_momentum=False)}
    for place, state in stepped.items():
        missing = [name for name in ("step", *parts) if name not in state]
        if missing:
            raise ValueError(f"the state has no {missing[0]}, which the options need")
        ours["step_counts"][place] = _count(state["step"])
        for name, arrays in parts.items():
            arrays[place] = _array(state[name], f"{name} of {place!r}")
    _fill(ours, parts)
    ours["step_count"] = max(ours["step_counts"].values())
    optimizer.load_state_dict(ours)
    return optimizer


@default_arithmetic()
def to_torch(optimizer: RMSprop, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a ``torch.optim.RMSprop`` over the same parameters takes as its ``load_state_dict``, options included.

    Parameters
    ----------
    optimizer : RMSprop
        With eps outside the square root and L2 decay, without Nesterov's momentum or bias correction.
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
        torch has no such RMSprop; `like` is the state of another optimizer, or of other parameters.
    """
    import torch

    ours = optimizer.state_dict()
    options = ours["options"]
    _refuse("torch", options, eps_inside=False, nesterov=False, bias_correction=False)
    if options["weight_decay"]:
        _refuse("torch", options, decoupled_weight_decay=False)
    changes = {theirs: options[name] for name, theirs in _TORCH_OPTIONS.items()}
    plain: dict[str, Any] = {"capturable": False, "foreach": None, "differentiable": False}
    every = range(len(ours["step_counts"]))
    groups = [plain | {"params": list(every)}] if like is None else _torch_groups(like)
    indices = [index for group in groups for index in group["params"]]
    if len(indices) != len(every):
        raise ValueError(f"like is of {len(indices)} parameters, the optimizer of {len(every)}")
    parts = _parts(ours, lr_in_momentum=False)
    state: dict[int, dict[str, Any]] = {}
    for k, (place, count) in zip(indices, ours["step_counts"].items(), strict=True):
        if count > 2**24:
            raise ValueError(f"torch counts steps in float32, which does not hold {count}")
        state[k] = {"step": torch.tensor(float(count), dtype=torch.float32)}
        for name, arrays in parts.items():
            state[k][name] = torch.from_numpy(arrays[place])
    return {"state": state, "param_groups": [{**group, **changes} for group in groups]}


def _torch_groups(state_dict: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The parameter groups, of which there is one at least, with their options."""
    groups: Sequence[Mapping[str, Any]] = state_dict.get("param_groups", ())
    for group in groups:
        missing = [name for name in ("params", *_TORCH_OPTIONS.values()) if name not in group]
        if missing or "decoupled_decay" in group:  # stable-baselines3 has no maximize; timm decays as it likes
            raise ValueError("this is not the state_dict of a torch.optim.RMSprop")
    if not groups or "state" not in state_dict:
        raise ValueError("this is not the state_dict of a torch.optim.RMSprop")
    return groups


# ---- Keras ----------------------------------------------------------------------------------------------------------

_KERAS_OPTIONS = {"rho": "rho", "eps": "epsilon", "momentum": "momentum", "centered": "centered"}
_KERAS_EXTRAS = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)
_KERAS_NAMES = ("square_avg", "momentum_buffer", "grad_avg")  # in the order of the list


@default_arithmetic()
def from_keras(config: Mapping[str, Any], variables: Sequence[Any], params: Any) -> RMSprop:
    """Go on from a ``keras.optimizers.RMSprop`` of Keras 3.

    Parameters
    ----------
    config : dict
        What its ``get_config()`` gave.
    variables : sequence
        Its ``variables``, built, or arrays of their values, in the same order.
    params : nesting of numpy.ndarray
        The values of the trainable variables, in Keras's order.

    Returns
    -------
    RMSprop
        Its `lr` is the value of Keras's variable, which has 32 bits by default.  It decays every parameter: what
        ``exclude_from_weight_decay`` left out is not in the configuration.

    Raises
    ------
    ValueError
        The configuration has a schedule for the learning rate, or clips, accumulates, averages or scales, for which
        RMSprop has no option; or the variables are not those of such an optimizer over such parameters.
    """
    if not all(name in config for name in _KERAS_OPTIONS.values()):
        raise ValueError("this is not the configuration of a keras.optimizers.RMSprop")
    extras = [name for name in _KERAS_EXTRAS if config.get(name)]
    if extras:
        raise ValueError(f"instep.RMSprop has no counterpart for {', '.join(extras)}")
    if isinstance(config["learning_rate"], Mapping):
        raise ValueError("the learning rate has a schedule and is not among the variables; assign a number first")
    optimizer = RMSprop(
        params,
        eps_inside=True,
        lr_in_momentum=True,
        decoupled_weight_decay=True,
        **{ours: config[theirs] for ours, theirs in _KERAS_OPTIONS.items()},
    )
    ours = optimizer.state_dict()
    places = list(ours["step_counts"])
    needed = _parts(ours, lr_in_momentum=True)
    names = [name for name in _KERAS_NAMES if name in needed]
    if len(variables) != 2 + len(names) * len(places):
        raise ValueError(
            f"there are {len(variables)} variables; {2 + len(names) * len(places)} are needed: iteration, "
            f"learning_rate, and {', '.join(names)} of {len(places)} parameters"
        )
    ours["options"] |= {"lr": _plain(variables[1]), "weight_decay": config["weight_decay"] or 0.0}
    rest = iter(variables[2:])
    _fill(ours, {name: {place: _array(next(rest), f"{name} of {place!r}") for place in places} for name in names})
    ours["step_count"] = _count(variables[0])
    ours["step_counts"] = dict.fromkeys(places, ours["step_count"])
    optimizer.load_state_dict(ours)
    return optimizer


@default_arithmetic()
def to_keras(optimizer: RMSprop) -> tuple[dict[str, Any], list[Array]]:
    """What makes a ``keras.optimizers.RMSprop`` of Keras 3 that goes on from here.

    ::

        config, values = instep.interchange.to_keras(optimizer)
        theirs = keras.optimizers.RMSprop(**config)
        theirs.build(trainable_variables)
        for variable, value in zip(theirs.variables, values, strict=True):
            variable.assign(value)

    Parameters
    ----------
    optimizer : RMSprop
        With eps inside the square root and decoupled decay, without Nesterov's momentum, bias correction or `maximize`.

    Returns
    -------
    config : dict
        The arguments.
    values : list of numpy.ndarray
        The values of its variables, in their order.

    Raises
    ------
    ValueError
        Keras has no such RMSprop.
    """
    ours = optimizer.state_dict()
    options = ours["options"]
    _refuse("Keras", options, eps_inside=True, nesterov=False, bias_correction=False, maximize=False)
    if options["weight_decay"]:
        _refuse("Keras", options, decoupled_weight_decay=True)
    parts = _parts(ours, lr_in_momentum=True)
    config: dict[str, Any] = {theirs: options[name] for name, theirs in _KERAS_OPTIONS.items()}
    config |= {"learning_rate": options["lr"], "weight_decay": options["weight_decay"] or None}
    values = [np.array(ours["step_count"]), np.array(options["lr"])]
    return config, values + [array for name in _KERAS_NAMES if name in parts for array in parts[name].values()]


# ---- optax ----------------------------------------------------------------------------------------------------------

_OPTAX_FIELDS = {"nu": "square_avg", "mu": "grad_avg", "trace": "momentum_buffer"}


@default_arithmetic()
def from_optax(state: Any, params: Any, *, step_count: int | None = None, **options: Any) -> RMSprop:
    """Go on from ``optax.rmsprop``.

    Parameters
    ----------
    state : tuple
        The state that its ``update`` returned last.
    params : nesting of numpy.ndarray
        In the nesting that optax has them in.
    step_count : int
        How many steps have been taken; needed where the state does not count them.
    **options
        Those of `instep.RMSprop`, for an optax state has none of them.  Those not given are optax's defaults, as in the
        preset ``"optax"``; `lr` must be given, and `centered`, `momentum` and `bias_correction` as the state has them.

    Raises
    ------
    ValueError
        The state is not one of these options over such parameters.
    TypeError
        `lr` or `step_count` is missing.
    """
    optimizer = RMSprop(params, **preset_options("optax", options))
    ours = optimizer.state_dict()
    fields = _optax_fields(state, _parts(ours, lr_in_momentum=True))
    counts = {_count(part.count) for part in state if "count" in part._fields}
    if step_count is not None:
        counts.add(step_count)
    if not counts:
        raise TypeError("this state does not count its steps: give step_count")
    if len(counts) > 1:
        raise ValueError(f"the counts of steps differ: {', '.join(map(str, counts))}")
    parts: Parts = {}
    for name, (_, places, leaves) in fields.items():
        if set(places) != set(ours["step_counts"]):
            raise ValueError("the optax state has another nesting than the params")
        sign = -1 if name == "momentum_buffer" else 1
        parts[name] = {
            place: sign * _array(leaf, f"{name} of {place!r}") for place, leaf in zip(places, leaves, strict=True)
        }
    if "momentum_buffer" in parts and not ours["options"]["lr_in_momentum"]:
        parts["momentum_buffer"] = {
            place: move_lr(array, ours["options"]["lr"], into=False)
            for place, array in parts["momentum_buffer"].items()
        }
    _fill(ours, parts)
    ours["step_count"] = counts.pop()
    ours["step_counts"] = dict.fromkeys(ours["step_counts"], ours["step_count"])
    optimizer.load_state_dict(ours)
    return optimizer


@default_arithmetic()
def to_optax(optimizer: RMSprop, state: Any) -> Any:
    """The state with which an ``optax.rmsprop`` goes on from here.

    Parameters
    ----------
    optimizer : RMSprop
        Without weight decay or `maximize`.
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
        optax has no such RMSprop, or `state` is not one with these options.
    """
    ours = optimizer.state_dict()
    _refuse("optax", ours["options"], maximize=False, weight_decay=0.0)
    parts = _parts(ours, lr_in_momentum=True)
    fields = _optax_fields(state, parts)
    if ours["options"]["bias_correction"] and set(ours["step_counts"].values()) != {ours["step_count"]}:
        raise ValueError("the arrays have been stepped a different number of times, and optax has one count for all")
    trees = {}
    for name, (nest, places, _) in fields.items():
        if set(places) != set(ours["step_counts"]):
            raise ValueError("the optax state has another nesting than the params")
        sign = -1 if name == "momentum_buffer" else 1
        trees[name] = nest.build([sign * parts[name][place] for place in places])

    filled = []
    for part in state:
        changes = {field: trees[name] for field, name in _OPTAX_FIELDS.items() if field in part._fields}
        if "count" in part._fields:
            changes["count"] = np.asarray(ours["step_count"], np.asarray(part.count).dtype)
        filled.append(part._replace(**changes))
    return tuple(filled)


def _optax_fields(state: Any, parts: Parts) -> dict[str, tuple[Nest, list[str], list[Any]]]:
    """The trees in a state of the chain that `optax.rmsprop` is, by our name: nesting, places, leaves."""
    if not isinstance(state, tuple) or not all(
        set(getattr(part, "_fields", ["unnamed"])) <= {*_OPTAX_FIELDS, "count"} for part in state
    ):
        raise ValueError("this is not the state of an optax.rmsprop")
    if any("trace" in part._fields for part in state[:-1]):
        raise ValueError(
            "this is not the state of an optax.rmsprop, whose momentum comes last, behind the learning rate"
        )
    fields = {}
    for part in state:
        for field, name in _OPTAX_FIELDS.items():
            if field in part._fields:
                leaves: list[Any] = []
                paths: list[tuple[Any, ...]] = []
                nest = Nest.of(getattr(part, field), leaves, paths)
                fields[name] = (nest, list(map(spell_path, paths)), leaves)
    if set(fields) != set(parts):
        raise ValueError(f"the optax state has {', '.join(fields)}, the options need {', '.join(parts)}")
    return fields


# ---- what the three share -------------------------------------------------------------------------------------------


def _parts(ours: StateDict, lr_in_momentum: bool) -> Parts:
    """The state as others carry it: the average of squares always, the momentum with lr in it or not."""
    parts = dict(ours["state"])
    if "variance" in parts:
        variances = parts.pop("variance")
        parts["square_avg"] = {
            place: square_avg_of(variance, parts["grad_avg"][place]) for place, variance in variances.items()
        }
    if "momentum_buffer" in parts and ours["options"]["lr_in_momentum"] != lr_in_momentum:
        parts["momentum_buffer"] = {
            place: move_lr(array, ours["options"]["lr"], into=lr_in_momentum)
            for place, array in parts["momentum_buffer"].items()
        }
    return parts


def _fill(ours: StateDict, parts: Parts) -> None:
    """Put in what others carry, in the way we carry it; what they lack stays as it starts."""
    for name, arrays in ours["state"].items():
        if name == "variance":
            averages = parts["grad_avg"]
            arrays |= {place: variance_of(array, averages[place]) for place, array in parts["square_avg"].items()}
        else:
            arrays |= parts[name]


def _refuse(framework: str, options: Mapping[str, Any], **needed: Any) -> None:
    for name, value in needed.items():
        if options[name] != value:
            raise ValueError(f"{framework} has no RMSprop with {name}={options[name]!r}")


def _array(value: Any, what: str) -> Array:
    """A NumPy array of a torch tensor, a Keras variable or a JAX array."""
    dtype = str(getattr(value, "dtype", "float64")).removeprefix("torch.")
    if dtype not in ("float32", "float64"):  # NumPy has no name for some of torch's
        raise ValueError(f"{what} is an array of {dtype}, not of float32 or float64")
    return _numpy(value)


def _numpy(value: Any) -> Array:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _plain(value: Any) -> Any:
    """A Python number of one, or of an array of one."""
    return value if isinstance(value, (bool, int, float)) else _numpy(value).item()


def _count(value: Any) -> int:
    """A number of steps, which torch has as a floating-point number."""
    count = _plain(value)
    if not 0 <= count < 2**63 or count != int(count):
        raise ValueError(f"{count!r} is not a number of steps")
    return int(count)
