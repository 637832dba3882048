"""The gradients and learning rates that a dialect is tried on, and how far two walks are apart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

import instep

Walk = NDArray[np.float64]

STEPS = 300
TOLERANCE = 1e-12

# What an option is tried with, beside what its framework makes of it by default.
VALUES: dict[str, list[Any]] = dict(
    rho=[0.7],
    eps=[1e-30, 1.0],
    eps_inside=[False],
    momentum=[0.8],
    nesterov=[True],
    lr_in_momentum=[False],
    centered=[True],
    initial_square_avg=[0.5],
    bias_correction=[True],
    weight_decay=[0.1],
    decoupled_weight_decay=[True],
    maximize=[True],
)
ALONE = {"rho", "initial_square_avg"}

SCALES = np.repeat([0.0, 1e-200, 1e-30, 1e-8, 1e-3, 1.0, 1e3, 1e100], 8)


def combinations(names: list[str]) -> Iterator[dict[str, Any]]:
    """The options of these names, each tried with each other; those of `ALONE` by themselves."""
    together = [name for name in names if name not in ALONE]
    for values in product(*([None, *VALUES[name]] for name in together)):
        options = {name: value for name, value in zip(together, values, strict=True) if value is not None}
        if not _contradict(options):
            yield options
    for name in names:
        if name in ALONE:
            yield {name: VALUES[name][0]}


def _contradict(options: dict[str, Any]) -> bool:
    """One excludes another, or means nothing without another that is absent."""
    return (
        ("momentum" not in options and ("nesterov" in options or "lr_in_momentum" in options))
        or ("weight_decay" not in options and "decoupled_weight_decay" in options)
        or ("centered" in options and "bias_correction" in options)
    )


def spell(value: Any) -> str:
    """Options, or the name of a framework, as part of a test's name."""
    if isinstance(value, str):
        return value
    return ",".join(f"{name}={choice}" for name, choice in value.items()) or "defaults"


def scales(options: dict[str, Any]) -> Walk:
    """How large the gradients of each element are with these options.

    With L2 decay those are left out that it outweighs.  There the parameter drives its own normalized step and swings
    about 0, which multiplies a rounding error with every swing: two correct programs drift apart.
    """
    l2 = options.get("weight_decay") and not options.get("decoupled_weight_decay")
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


def walk_preset(name: str, begin: Walk, grads: Walk, rates: Walk | None, **options: Any) -> Walk:
    """Every position on the way of `RMSprop.preset`; without rates at the preset's own."""
    param = begin.copy()
    if rates is not None:
        options["lr"] = rates[0]
    optimizer = instep.RMSprop.preset(name, [param], **options)
    walk = [begin]
    for k, grad in enumerate(grads):
        if rates is not None:
            optimizer.lr = rates[k]
        optimizer.step([grad])
        walk.append(param.copy())
    return np.array(walk)


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
