"""Contenders, interleaved: in every round each of them has its turn, so that whatever disturbs the machine hits all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from timeit import Timer
from typing import Any

# Long enough that the threads of the one before, which still look for work, are asleep.
PAUSE = 2e-3


def nothing() -> None:
    """What most contenders need before they are timed."""


@dataclass(frozen=True)
class Contender:
    """What is timed: `seconds(n)` is the time of n steps, `prepare()` comes before it, untimed.

    `apart` are seconds that pass with each step and are not in its time.
    """

    name: str
    threads: int
    seconds: Callable[[int], float]
    prepare: Callable[[], None] = nothing
    apart: float = 0


def python_steps(step: Callable[[], Any]) -> Callable[[int], float]:
    """`seconds` of a function: its calls in a loop, with the garbage collector off."""
    return Timer(step).timeit


@dataclass(frozen=True)
class Effort:
    """How much of a user's time a run may take."""

    rounds: int
    batch: float  # seconds of steps that a measurement adds up, at least one step
    patience: float  # seconds after which a row gets no more rounds, if it has had three


def interleave(
    contenders: list[Contender], effort: Effort, on_round: Callable[[float], None] = lambda done: None
) -> dict[tuple[str, int], list[float]]:
    """The seconds that a step took, for each contender and number of threads, one sample a round.

    Parameters
    ----------
    contenders : list of Contender
        In the order of their turns, which is rotated by one from round to round.
    effort : Effort
        How long to go on.
    on_round : callable
        Told which part of the work is done, from 0 to 1.
    """
    repeats = []
    for k, contender in enumerate(contenders):
        contender.prepare()
        contender.seconds(1)  # compiles, makes state, wakes threads
        repeats.append(enough_repeats(contender, effort.batch))
        on_round(0.3 * (k + 1) / len(contenders))

    samples: dict[tuple[str, int], list[float]] = {(one.name, one.threads): [] for one in contenders}
    begin = time.perf_counter()
    for k in range(effort.rounds):
        order = range(len(contenders))
        for place in [*order[k % len(order) :], *order[: k % len(order)]]:
            contender, n = contenders[place], repeats[place]
            contender.prepare()
            time.sleep(PAUSE)
            if n > 1:
                contender.seconds(n // 4 + 1)  # back into cache, threads awake
            samples[contender.name, contender.threads].append(contender.seconds(n) / n)
        on_round(0.3 + 0.7 * (k + 1) / effort.rounds)
        if k >= 2 and time.perf_counter() - begin > effort.patience:
            break
    on_round(1.0)
    return samples


def enough_repeats(contender: Contender, batch: float) -> int:
    """How many steps take about this long."""
    n = 1
    while (taken := contender.seconds(n) + n * contender.apart) < batch / 4:
        n *= 4
    return max(1, round(n * batch / taken))
