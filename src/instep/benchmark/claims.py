"""What a run has to show, as ratios of its own medians."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .peers import BARE, BOUND, COMPILED, FOREACH, INSTEP, NUMBA, OPTAX, TORCH, TUNED_NUMBA, TUTORIAL
from .suite import DIVIDER, ROOF

Row = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """Something promised, what was measured, and whether that is enough."""

    what: str
    limit: str
    measured: str
    holds: bool


def find(row: Row, name: str, threads: int | None = None) -> float | None:
    """The median of a contender in seconds, of its fastest number of threads if none is given; None if it is absent."""
    medians = (time["median"] for time in row["times"] if time["name"] == name and threads in (None, time["threads"]))
    return min(medians, default=None)


def median(row: Row, name: str, threads: int | None = None) -> float:
    """The same of a contender that is there."""
    found = find(row, name, threads)
    if found is None:
        raise KeyError(f"{row['title']} has no times of {name} with {threads or 'any number of'} threads")
    return found


def roof(row: Row, threads: int) -> float:
    """The roof for so many threads: small arrays are walked faster by one."""
    return min(median(row, ROOF, count) for count in {1, threads})


def claims(result: dict[str, Any]) -> list[Claim]:
    """All that this run can judge."""
    return [
        *of_sizes(result),
        *of_overhead(result),
        *of_workloads(result),
        *of_the_run(result),
    ]


def at_least(what: str, limit: float, ratio: float, detail: str = "") -> Claim:
    """A claim that a ratio is not below its limit."""
    return Claim(what, f"at least {limit:g}x", f"{ratio:.2f}x{detail}", ratio >= limit)


def at_most(what: str, limit: float, value: float, unit: str, detail: str = "") -> Claim:
    """A claim that a value is not above its limit."""
    return Claim(what, f"at most {limit:g}{unit}", f"{value:.3g}{unit}{detail}", value <= limit)


def spelled(number: int) -> str:
    """With thin thousands."""
    return f"{number:,}".replace(",", " ")


def of_sizes(result: dict[str, Any]) -> Iterator[Claim]:
    """One array, of every size."""
    rows, most = result["sizes"], result["machine"]["threads"]
    by_size = {row["elements"]: row for row in rows}
    if 100_000 in by_size:
        row = by_size[100_000]
        yield at_most(
            "100 000 elements, in cache, over the divider",
            1.05, median(row, INSTEP, 1) / median(row, DIVIDER, 1), "x",
        )  # fmt: skip
    largest = by_size[max(by_size)]
    for threads in sorted({1, most}):
        yield at_least(
            f"{spelled(largest['elements'])} elements, share of the roof, {threads} thread{'s' * (threads > 1)}",
            0.95, roof(largest, threads) / median(largest, INSTEP, threads),
        )  # fmt: skip
    tutorial = {size: median(row, TUTORIAL) / median(row, INSTEP, 1) for size, row in by_size.items()}
    for what, limit, chosen in (
        ("one thread against tutorial NumPy, any size", 4.5, tutorial),
        ("the same, below 1 000 elements", 10, {n: ratio for n, ratio in tutorial.items() if n < 1_000}),
        ("the same, above a million", 10, {n: ratio for n, ratio in tutorial.items() if n > 1_000_000}),
    ):
        if chosen:
            worst = min(chosen, key=chosen.__getitem__)
            yield at_least(what, limit, chosen[worst], f" (at {spelled(worst)})")
    if most > 1:
        slowdown = {size: median(row, INSTEP, most) / median(row, INSTEP, 1) for size, row in by_size.items()}
        worst = max(slowdown, key=slowdown.__getitem__)
        yield at_most(f"{most} threads against one, any size", 1.05, slowdown[worst], "x", f" (at {spelled(worst)})")


def of_overhead(result: dict[str, Any]) -> Iterator[Claim]:
    """What surrounds the loop."""
    for row in result["function"]:
        yield at_most("a call of instep.rmsprop on ten elements", 0.6, median(row, INSTEP) * 1e6, " us")
    for name, base, each in ((INSTEP, 0.35, 25), (BOUND, 0.2, 3)):
        for row in result["overhead"]:
            limit = base + each * 1e-3 * row["arrays"]
            extra = (median(row, name) - median(row, BARE)) * 1e6
            what = f"{'bound step()' if name == BOUND else 'step(grads)'} over its loop, {row['title']}"
            yield at_most(what, limit, extra, " us")
    for row in result["import"]:
        yield at_most("import instep over import numpy", 10, median(row, "instep") * 1e3, " ms")


def of_workloads(result: dict[str, Any]) -> Iterator[Claim]:
    """Beside the peers; a peer that is not there cannot be judged."""
    most = result["machine"]["threads"]
    rows = {row["title"]: row for row in result["workloads"]}

    def against(title: str, whom: str, names: tuple[str, ...], limit: float) -> Iterator[Claim]:
        row = rows.get(title, {"times": []})
        ours = find(row, INSTEP, most)
        there = {name: seconds for name in names if (seconds := find(row, name)) is not None}
        if there and ours is not None:
            fastest = min(there, key=there.__getitem__)
            detail = f" ({fastest})" if len(names) > 1 else ""
            missing = "" if len(there) == len(names) else ", of those that are there"
            yield at_least(f"{title}, against {whom}{missing}", limit, there[fastest] / ours, detail)

    yield from against("an RL policy", "the best of numba, optax, compiled torch", (NUMBA, OPTAX, COMPILED), 8)
    yield from against("an RL policy", "tuned numba", (TUNED_NUMBA,), 8)
    yield from against("an RL policy", "torch.optim.RMSprop", (TORCH,), 30)
    yield from against("1000 arrays of 1000", "the better of numba and foreach torch", (NUMBA, FOREACH), 10)
    yield from against("1000 arrays of 1000", "tuned numba", (TUNED_NUMBA,), 10)
    many = rows["1000 arrays of 1000"]
    yield at_most(
        "1000 arrays of 1000, one thread, over its loop", 1.15, median(many, INSTEP, 1) / median(many, BARE, 1), "x"
    )
    if "an MLP" in rows:
        yield from against("an MLP", "the best peer", (NUMBA, TUNED_NUMBA, TORCH, FOREACH, COMPILED, OPTAX), 1.7)
        if most > 1:
            ratio = median(rows["an MLP"], INSTEP, 1) / median(rows["an MLP"], INSTEP, most)
            yield at_least(f"an MLP, {most} threads against our one", 1.85, ratio)
    yield from against("one large array", "compiled torch", (COMPILED,), 1)
    yield from against("one large array", "torch.optim.RMSprop", (TORCH,), 5)


def of_the_run(result: dict[str, Any]) -> Iterator[Claim]:
    """Whether it was left alone: nothing that moves as many bytes is faster than the roof."""
    least = {
        f"{time['name']}, {row['title']}, threads: {time['threads']}": time["median"] / roof(row, time["threads"])
        for row in (*result["sizes"], *result["workloads"])
        for time in row["times"]
        if time["name"] != DIVIDER
    }
    fastest = min(least, key=least.__getitem__)
    yield at_least("the time of anything over the roof's", 0.95, least[fastest], f" ({fastest})")
