"""The gradients and learning rates that a dialect is tried on, and how far two walks are apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

import instep
from instep._core import Options
from instep.dialects import dialects
from instep.optimizers import Optimizer

Walk = NDArray[np.float64]

STEPS = 300
TOLERANCE = 1e-12

CLASSES: dict[str, type[Optimizer]] = {
    name.lower(): cls
    for name, cls in vars(instep).items()
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
}

# What a number is tried with, beside what its framework makes of it by default; a flag is tried the other way.
VALUES: dict[str, list[float]] = dict(
    rho=[0.7],
    beta1=[0.7],
    beta2=[0.9],
    eps=[1e-30, 1.0],
    eps_root=[1e-3],
    momentum=[0.8],
    dampening=[0.4],
    lr_decay=[0.1],
    initial_square_avg=[0.5],
    initial_square_sum=[0.5],
    eta_minus=[0.3],
    eta_plus=[1.5],
    step_min=[1e-3],
    step_max=[0.1],
    weight_decay=[0.1],
)
ALONE = {
    "rho",
    "beta1",
    "beta2",
    "initial_square_avg",
    "initial_square_sum",
    "eta_minus",
    "eta_plus",
    "step_min",
    "step_max",
}

SCALES = np.repeat([0.0, 1e-200, 1e-30, 1e-8, 1e-3, 1.0, 1e3, 1e100], 8)


def combinations(framework: str, rule: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The options of these names, each tried with each other; those of `ALONE` by themselves."""
    defaults = instep.presets(rule)[framework]
    tried: list[list[dict[str, Any]]] = []
    for name in names:
        values = [not defaults[name]] if isinstance(defaults[name], bool) else VALUES[name]
        if name in ALONE:
            yield from ({name: value} for value in values)
        else:
            tried.append([{}, *({name: value} for value in values)])
    for choices in product(*tried):
        options = {name: value for choice in choices for name, value in choice.items()}
        if _goes_together(CLASSES[rule].rule, defaults | options):
            yield options


def _goes_together(rule: str, options: dict[str, Any]) -> bool:
    try:
        Options(rule).replace(options, (np.dtype("float64"),))
    except ValueError:
        return False
    return True


def spell(value: Any) -> str:
    """Options, or the name of a framework or rule, as part of a test's name."""
    if isinstance(value, str):
        return value
    return ",".join(f"{name}={choice}" for name, choice in value.items()) or "defaults"


def scales(framework: str, rule: str, options: dict[str, Any]) -> Walk:
    """How large the gradients of each element are with these options.

    With L2 decay those are left out that it outweighs.  There the parameter drives its own normalized step and swings
    about 0, which multiplies a rounding error with every swing: two correct programs drift apart.
    """
    options = instep.presets(rule)[framework] | options
    l2 = options["weight_decay"] and not options["decoupled_weight_decay"]
    return SCALES[SCALES >= 1] if l2 else SCALES


def gradients(scale: Walk) -> Walk:
    """One row a step: noise of either sign, a tenth of it zeros, all of it zero for a sixth of the way."""
    rng = np.random.default_rng(17)
    noise = rng.standard_normal((STEPS, scale.size)) * (rng.random((STEPS, scale.size)) > 0.1)
    noise[STEPS // 3 : STEPS // 2] = 0
    return noise * scale


def start(scale: Walk) -> Walk:
    """Half of every scale at 0, where a step of any size is seen."""
    return np.random.default_rng(18).standard_normal(scale.size) * (np.arange(scale.size) % 2)


def without_gradient() -> tuple[Walk, Walk, Walk]:
    """Start, gradients and learning rates of a walk by weight decay alone, so slow that it does not reach 0."""
    return np.array([-1.0, 1.0]), np.zeros((STEPS, 2)), learning_rates(1e-4)


def learning_rates(lr: float) -> Walk:
    """Smooth change, two jumps and a pause."""
    t = np.arange(STEPS)
    rates = lr * (1.1 + np.cos(t / 20))
    rates[STEPS // 4 : STEPS // 3] *= 10
    rates[STEPS // 2] = 0
    return rates


def walk_preset(
    framework: str, rule: str, begin: Walk, grads: Walk, rates: Walk | None, options: dict[str, Any]
) -> Walk:
    """Every position on the way of a preset; without rates at its own."""
    param = begin.copy()
    if rates is not None:
        options = options | dict(lr=rates[0])
    optimizer = CLASSES[rule].preset(framework, [param], **options)
    walk = [begin]
    for k, grad in enumerate(grads):
        if rates is not None:
            optimizer.lr = rates[k]
        optimizer.step([grad])
        walk.append(param.copy())
    return np.array(walk)


def words(framework: str, rule: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options as the framework calls them; tuples whole, with its defaults beside those given."""
    names = dialects()[framework][rule].names
    whole = instep.presets(rule)[framework] | options
    spoken: dict[str, Any] = {}
    for name in options:
        theirs = names[name]
        if isinstance(theirs, str):
            spoken[theirs] = options[name]
        else:
            spoken[theirs[0]] = tuple(whole[item] for item, place in names.items() if place[0] == theirs[0])
    return spoken


def distance(ours: Walk, theirs: Walk) -> float:
    """The largest difference of any element at any time, relative to the way that it has behind it.

    A position is a sum of steps, so that rounding, theirs as ours, goes with the sizes of the start and of the steps,
    not with what their sum leaves.  The bound is one for every element, not the largest one's for all; one that rests
    at 0 has no way behind it, and any difference there is infinite.
    """
    assert np.isfinite(ours).all()
    assert np.isfinite(theirs).all()
    way = np.abs(theirs[0]) + np.cumsum(np.abs(np.diff(theirs, axis=0)), axis=0)
    apart = np.abs(ours - theirs)[1:]
    return float(np.max(np.divide(apart, way, out=np.where(apart > 0, np.inf, 0.0), where=way > 0)))
