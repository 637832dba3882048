"""Schedules: an option as a function of how many steps have been taken.

A schedule is called with `Optimizer.step_count` and returns a float, for any option that is a number::

    opt.lr = schedule(opt.step_count)

It remembers nothing between calls, so a run that goes on from a checkpoint goes on in its schedule too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, SupportsIndex, final

import numpy as np

from ._core import LARGEST_COUNT, real_number, whole_number

__all__ = ["Schedule", "constant", "cosine", "exponential", "one_cycle", "piecewise", "polynomial", "warmup"]


@final
class Schedule:
    """What the functions of this module return: a function of the number of steps taken.

    Make one by them, as by `cosine`, and call it with a number of steps.

    Two are equal if they were made by the same function of equal arguments.  They can be pickled, and their repr is
    the call that makes them.

    Examples
    --------
    >>> from instep.schedules import cosine
    >>> schedule = cosine(0.1, 1000)
    >>> round(schedule(250), 6)
    0.085355
    >>> schedule
    cosine(start=0.1, steps=1000, end=0.0)
    """

    __slots__ = ("_arguments", "_formula", "_make")

    def __init__(
        self, make: Callable[..., Schedule], formula: Callable[[int], float], arguments: dict[str, Any]
    ) -> None:
        self._make, self._formula, self._arguments = make, formula, arguments

    def __call__(self, step: SupportsIndex) -> float:
        """The value for the step that follows.

        Parameters
        ----------
        step : int
            How many steps have been taken, from 0: `Optimizer.step_count`.

        Raises
        ------
        TypeError
            `step` is not an integer.  A float is none, even 3.0.
        ValueError
            `step` is negative, or 2**63 or greater.
        """
        return self._formula(_count("step", step, least=0))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments.items())
        return f"{self._make.__name__}({arguments})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self._make, self._arguments) == (other._make, other._arguments)

    def __hash__(self) -> int:
        values = self._arguments.values()
        return hash((self._make, *(tuple(value.items()) if isinstance(value, dict) else value for value in values)))

    def __reduce__(self) -> tuple[Callable[[], Schedule], tuple[()]]:
        return partial(self._make, **self._arguments), ()


def constant(value: float) -> Schedule:
    """The same value at every step, for `warmup` to lead up to.

    Parameters
    ----------
    value : float
        Finite.

    Examples
    --------
    >>> from instep.schedules import constant, warmup
    >>> schedule = warmup(constant(0.1), 4)
    >>> [schedule(step) for step in (0, 2, 4, 100)]
    [0.0, 0.05, 0.1, 0.1]
    """
    value = _number("value", value)
    return Schedule(constant, lambda step: value, dict(value=value))


def piecewise(start: float, values: Mapping[int, float]) -> Schedule:
    """Constant pieces: `start`, and from each step of `values` on, its value.

    The values are what is returned, not factors.  torch's ``MultiStepLR(opt, [100, 200], gamma=0.1)`` with a learning
    rate of 0.1 is ``piecewise(0.1, {100: 0.01, 200: 0.001})``.

    Parameters
    ----------
    start : float
        The value before the first step of `values`.
    values : mapping of int to float
        The value by the step from which it holds.  Steps are 1 or greater and increase.

    Raises
    ------
    TypeError
        `values` is not a mapping of integers to numbers, or `start` is not a number.
    ValueError
        A number is not finite, or a step is not greater than the one before it.

    Examples
    --------
    >>> from instep.schedules import piecewise
    >>> schedule = piecewise(0.1, {100: 0.01, 200: 0.001})
    >>> [schedule(step) for step in (0, 99, 100, 200, 5000)]
    [0.1, 0.1, 0.01, 0.001, 0.001]
    """
    start = _number("start", start)
    if not isinstance(values, Mapping):
        raise TypeError(f"values must be a mapping of steps to values, not {values!r}")
    pieces: dict[int, float] = {}
    before = 0
    for key, value in values.items():
        boundary = _count("a step of values", key, least=1)
        if boundary <= before:
            raise ValueError(f"values: step {boundary} must be greater than the step before it, {before}")
        pieces[boundary] = _number(f"values[{boundary}]", value)
        before = boundary

    def formula(step: int) -> float:
        value = start
        for boundary, next_value in pieces.items():
            if step < boundary:
                break
            value = next_value
        return value

    return Schedule(piecewise, formula, dict(start=start, values=pieces))


def exponential(
    start: float, decay_rate: float, decay_steps: int, staircase: bool = False, end: float | None = None
) -> Schedule:
    """Exponential decay: ``start decay_rate^(step / decay_steps)``, which stops at `end`.

    Parameters
    ----------
    start : float
        The value at step 0; greater than 0.
    decay_rate : float
        The factor of every `decay_steps` steps; greater than 0.  Above 1 the value grows, as in a search for the best
        learning rate; it needs an `end` then.
    decay_steps : int
        1 or greater.
    staircase : bool
        Decay at the end of every `decay_steps` steps only, instead of a little at every step.
    end : float, optional
        Where the value stops: at most `start` when it decays, at least `start` when it grows.

    Raises
    ------
    TypeError
        An argument is not of its type.
    ValueError
        An argument is not finite or out of its range, or `end` is missing where the value grows.

    Examples
    --------
    >>> from instep.schedules import exponential
    >>> schedule = exponential(0.1, 0.5, 10, end=0.02)
    >>> [schedule(step) for step in (0, 10, 20, 30)]
    [0.1, 0.05, 0.025, 0.02]
    >>> schedule = exponential(0.1, 0.5, 10, staircase=True)
    >>> [schedule(step) for step in (9, 10, 19)]
    [0.1, 0.05, 0.05]
    """
    start = _positive("start", start)
    decay_rate = _positive("decay_rate", decay_rate)
    decay_steps = _count("decay_steps", decay_steps, least=1)
    if not isinstance(staircase, bool | np.bool_):
        raise TypeError(f"staircase must be True or False, not {staircase!r}")
    staircase = bool(staircase)
    grows = decay_rate > 1
    if end is None:
        if grows:
            raise ValueError(f"end is needed when decay_rate={decay_rate!r} is greater than 1, for the value grows")
    else:
        end = _number("end", end)
        if grows and end < start:
            raise ValueError(f"end={end!r} must be at least start={start!r} when decay_rate is greater than 1")
        if not grows and not 0 <= end <= start:
            raise ValueError(f"end={end!r} must be from 0 to start={start!r} when decay_rate is at most 1")

    def formula(step: int) -> float:
        try:
            value = start * decay_rate ** (step // decay_steps if staircase else step / decay_steps)
        except OverflowError:
            value = math.inf
        if end is None:
            return value
        return min(value, end) if grows else max(value, end)

    arguments = dict(start=start, decay_rate=decay_rate, decay_steps=decay_steps, staircase=staircase, end=end)
    return Schedule(exponential, formula, arguments)


def polynomial(start: float, end: float, steps: int, power: float = 1.0) -> Schedule:
    """From `start` to `end` in `steps` steps: ``end + (start - end) (1 - step / steps)^power``; linear by default.

    Parameters
    ----------
    start : float
        The value at step 0.
    end : float
        The value at step `steps`, and after it.
    steps : int
        1 or greater.
    power : float
        Greater than 0.

    Raises
    ------
    TypeError
        An argument is not of its type.
    ValueError
        An argument is not finite or out of its range.

    Examples
    --------
    >>> from instep.schedules import polynomial
    >>> schedule = polynomial(0.5, 0.9, 4)
    >>> [schedule(step) for step in (0, 1, 2, 4, 5)]
    [0.5, 0.6, 0.7, 0.9, 0.9]
    >>> polynomial(1.0, 0.0, 4, power=2)(2)
    0.25
    """
    start, end = _number("start", start), _number("end", end)
    steps = _count("steps", steps, least=1)
    power = _positive("power", power)

    def formula(step: int) -> float:
        left = max(steps - step, 0) / steps
        return _mix(start, end, left**power)

    return Schedule(polynomial, formula, dict(start=start, end=end, steps=steps, power=power))


def cosine(start: float, steps: int, end: float = 0.0) -> Schedule:
    """From `start` to `end` along half a cosine: ``end + (start - end) (1 + cos(pi step / steps)) / 2``.

    Parameters
    ----------
    start : float
        The value at step 0.
    steps : int
        1 or greater.
    end : float
        The value at step `steps`, and after it: there is no restart.  It is a value, where optax's ``alpha`` is a part
        of `start`.

    Raises
    ------
    TypeError
        An argument is not of its type.
    ValueError
        An argument is not finite or out of its range.

    References
    ----------
    Ilya Loshchilov, Frank Hutter, SGDR: stochastic gradient descent with warm restarts, arXiv:1608.03983, 2016.

    Examples
    --------
    >>> from instep.schedules import cosine
    >>> schedule = cosine(0.1, 1000, end=0.02)
    >>> [round(schedule(step), 6) for step in (0, 250, 500, 1000, 2000)]
    [0.1, 0.088284, 0.06, 0.02, 0.02]
    """
    start, end = _number("start", start), _number("end", end)
    steps = _count("steps", steps, least=1)

    def formula(step: int) -> float:
        return _mix(start, end, _half_cosine(max(steps - step, 0) / steps))

    return Schedule(cosine, formula, dict(start=start, steps=steps, end=end))


def one_cycle(
    peak: float, steps: int, *, rise: float = 0.3, start: float | None = None, end: float | None = None
) -> Schedule:
    """Smith's cycle: from `start` up to `peak`, then down to `end`, each along half a cosine.

    Momentum goes the other way: ``one_cycle(0.85, steps, start=0.95, end=0.95)``.

    Parameters
    ----------
    peak : float
        The value at step ``rise * steps``.
    steps : int
        1 or greater.
    rise : float
        The part of `steps` that leads up to `peak`; greater than 0, less than 1.
    start : float, optional
        The value at step 0; by default ``peak / 25``.
    end : float, optional
        The value at step `steps`, and after it; by default ``start / 10_000``.

    Raises
    ------
    TypeError
        An argument is not of its type.
    ValueError
        An argument is not finite or out of its range.

    Notes
    -----
    The defaults are those of torch and optax, which count otherwise.  torch reaches each end one step earlier:
    ``OneCycleLR(opt, peak, total_steps=n, pct_start=p)`` is ``one_cycle(peak, n - 1, rise=(p * n - 1) / (n - 1))``.
    optax rounds the step of the peak down: ``cosine_onecycle_schedule(n, peak, pct_start=p)`` is
    ``one_cycle(peak, n, rise=int(p * n) / n)``.

    References
    ----------
    Leslie Smith, Nicholay Topin, Super-convergence: very fast training of neural networks using large learning rates,
    arXiv:1708.07120, 2017.

    Examples
    --------
    >>> from instep.schedules import one_cycle
    >>> schedule = one_cycle(0.5, 100)
    >>> [round(schedule(step), 6) for step in (0, 15, 30, 65, 100)]
    [0.02, 0.26, 0.5, 0.250001, 2e-06]
    """
    peak = _number("peak", peak)
    steps = _count("steps", steps, least=1)
    rise = _number("rise", rise)
    if not 0 < rise < 1:
        raise ValueError(f"rise={rise!r} must be greater than 0 and less than 1")
    start = peak / 25 if start is None else _number("start", start)
    end = start / 10_000 if end is None else _number("end", end)
    top = rise * steps

    def formula(step: int) -> float:
        if step < top:
            return _mix(start, peak, _half_cosine((top - step) / top))
        if step < steps:
            return _mix(peak, end, _half_cosine((steps - step) / (steps - top)))
        return end

    return Schedule(one_cycle, formula, dict(peak=peak, steps=steps, rise=rise, start=start, end=end))


def warmup(schedule: Callable[[int], Any], steps: int, start: float = 0.0) -> Schedule:
    """Linear warm-up: from `start` to the schedule's first value in `steps` steps, then the schedule from its start.

    The steps of the schedule are counted from the end of the warm-up, so that ``warmup(cosine(0.1, 900), 100)`` ends
    at step 1000.  optax's ``warmup_cosine_decay_schedule`` counts both in its ``decay_steps``.

    Parameters
    ----------
    schedule : callable
        One of this module, or any other function of the step that returns a number, such as one of optax.
    steps : int
        0 or greater.
    start : float
        The value at step 0.  With a learning rate of 0 the first step changes the running averages, and no parameter.

    Raises
    ------
    TypeError
        `schedule` is not callable or does not return a number, or another argument is not of its type.
    ValueError
        A number is not finite or out of its range.  What another's schedule returns is looked at when it is called.

    Examples
    --------
    >>> from instep.schedules import cosine, warmup
    >>> schedule = warmup(cosine(0.1, 900), 100)
    >>> [round(schedule(step), 6) for step in (0, 50, 100, 550, 1000)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    >>> schedule
    warmup(schedule=cosine(start=0.1, steps=900, end=0.0), steps=100, start=0.0)
    """
    if not callable(schedule):
        raise TypeError(f"schedule must be a function of the step, not {schedule!r}")
    steps = _count("steps", steps, least=0)
    start = _number("start", start)

    def value_at(step: int) -> float:
        return _number(f"schedule({step})", schedule(step))

    def formula(step: int) -> float:
        if step < steps:
            return _mix(start, value_at(0), (steps - step) / steps)
        return value_at(step - steps)

    value_at(0)
    return Schedule(warmup, formula, dict(schedule=schedule, steps=steps, start=start))


def _mix(start: float, end: float, part: float) -> float:
    """`start` at 1, `end` at 0, both exactly, and a straight line between."""
    # Never beyond either: a part below 1 takes off at least what the rounding of the difference may have put on.
    return start if part == 1 else end + (start - end) * part


def _half_cosine(left: float) -> float:
    """From 1 to 0 as `left` does: ``(1 - cos(pi left)) / 2`` without its cancellation near 0."""
    return math.sin(math.pi / 2 * left) ** 2


def _number(name: str, value: Any) -> float:
    number = real_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name}={value!r} must be finite")
    return number


def _positive(name: str, value: Any) -> float:
    number = _number(name, value)
    if number <= 0:
        raise ValueError(f"{name}={number!r} must be greater than 0")
    return number


def _count(name: str, value: Any, *, least: int) -> int:
    return whole_number(name, value, least, LARGEST_COUNT + 1)
