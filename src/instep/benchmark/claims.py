"""What a run has to show, as ratios of its own medians."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import around
from .peers import BOUND, DEEPSPEED, DROP_IN, INSTEP, NUMBA, TUNED_NUMBA, TUTORIAL, optax_name, torch_name
from .suite import AROUND_IN_CACHE, IN_CACHE
from .values import NORMAL
from .walls import BARE, DIVIDER, ROOF

Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """How many times a step must be as fast as the best of some, on a workload."""

    workload: str
    whom: str
    names: tuple[str, ...]
    least: float


TORCH, FOREACH, COMPILED = (torch_name("rmsprop", way) for way in ("for-loop", "foreach", "compiled"))
OPTAX, FUSED = optax_name("rmsprop"), torch_name("adam", "fused")
TARGETS = {
    "rmsprop": (
        Target("an RL policy", "the best of numba, optax, compiled torch", (NUMBA, OPTAX, COMPILED), 8),
        Target("an RL policy", "tuned numba", (TUNED_NUMBA,), 8),
        Target("an RL policy", "torch.optim.RMSprop", (TORCH,), 30),
        Target("1000 arrays of 1000", "the better of numba and foreach torch", (NUMBA, FOREACH), 10),
        Target("1000 arrays of 1000", "tuned numba", (TUNED_NUMBA,), 10),
        Target("an MLP", "the best peer", (NUMBA, TUNED_NUMBA, TORCH, FOREACH, COMPILED, OPTAX), 1.7),
        Target("one large array", "compiled torch", (COMPILED,), 1),
        Target("one large array", "torch.optim.RMSprop", (TORCH,), 5),
    ),
    "adam": (
        Target("an RL policy", DEEPSPEED, (DEEPSPEED,), 4),
        Target("an RL policy", "fused torch", (FUSED,), 15),
        Target("1000 arrays of 1000", f"the better of {DEEPSPEED} and fused torch", (DEEPSPEED, FUSED), 15),
        Target("an MLP", DEEPSPEED, (DEEPSPEED,), 1),
        Target("one large array", f"the better of {DEEPSPEED} and fused torch", (DEEPSPEED, FUSED), 1),
    ),
}
# Against tutorial NumPy: at any size, below a thousand elements, above a million.
TUTORIAL_TARGETS = {"rmsprop": (4.5, 10, 10)}
# Microseconds over the loop: for a step, and for each of a thousand arrays.
SURROUNDINGS = {INSTEP: (0.35, 25), BOUND: (0.2, 3), DROP_IN: (3.5, 450)}
WAYS = {INSTEP: "step(grads)", BOUND: "bound step()", DROP_IN: "instep.torch"}


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


def wall(row: Row) -> float:
    """What one thread cannot be faster than in cache: the roof, or the roots and divisions."""
    return max(roof(row, 1), find(row, DIVIDER) or 0)


def rows_of(result: dict[str, Any], section: str, rule: str) -> list[Row]:
    """The rows of one rule."""
    return [row for row in result.get(section, ()) if row["rule"] == rule]


def claims(result: dict[str, Any]) -> list[Claim]:
    """All that this run can judge: of its first rule at length, then of the others."""
    first, *others = result["rules"]
    return [
        *of_sizes(result, first),
        *of_overhead(result, first),
        *of_workloads(result, first),
        *of_conditions(result, first),
        *of_values(result, first),
        *of_what_is_around(result, first),
        *(claim for rule in others for claim in of_another(result, rule)),
        *of_the_run(result),
    ]


def at_least(what: str, limit: float, ratio: float, detail: str = "") -> Claim:
    """A claim that a ratio is not below its limit."""
    return Claim(what, f"at least {limit:g}x", f"{measured(ratio, limit)}x{detail}", ratio >= limit)


def at_most(what: str, limit: float, value: float, unit: str, detail: str = "") -> Claim:
    """A claim that a value is not above its limit."""
    return Claim(what, f"at most {limit:g}{unit}", f"{measured(value, limit)}{unit}{detail}", value <= limit)


def measured(value: float, limit: float) -> str:
    """Two places, and none from a hundred on; as many more as show on which side of the limit it is."""
    places = 2 if abs(value) < 99.995 else 0
    while value != limit and (round(value, places) - limit) * (value - limit) <= 0:
        places += 1
    return f"{value:,.{places}f}".replace(",", " ")


def spelled(number: int) -> str:
    """With thin thousands."""
    return f"{number:,}".replace(",", " ")


def of_sizes(result: dict[str, Any], rule: str) -> Iterator[Claim]:
    """One array, of every size."""
    most = result["machine"]["threads"]
    by_size = {row["elements"]: row for row in rows_of(result, "sizes", rule)}
    if IN_CACHE in by_size:
        row = by_size[IN_CACHE]
        over = "the divider" if find(row, DIVIDER) else "the roof"
        what = f"{spelled(IN_CACHE)} elements, in cache, over {over}"
        yield at_most(what, 1.05, median(row, INSTEP, 1) / wall(row), "x")
    largest = by_size[max(by_size)]
    for threads in sorted({1, most}):
        yield at_least(
            f"{spelled(largest['elements'])} elements, share of the roof, {threads} thread{'s' * (threads > 1)}",
            0.95, roof(largest, threads) / median(largest, INSTEP, threads),
        )  # fmt: skip
    if rule in TUTORIAL_TARGETS:
        tutorial = {size: median(row, TUTORIAL) / median(row, INSTEP, 1) for size, row in by_size.items()}
        for limit, what, chosen in zip(
            TUTORIAL_TARGETS[rule],
            (
                "one thread against tutorial NumPy, any size",
                "the same, below 1 000 elements",
                "the same, above a million",
            ),
            (tutorial, [size for size in tutorial if size < 1_000], [size for size in tutorial if size > 1_000_000]),
            strict=True,
        ):
            if chosen:
                worst = min(chosen, key=tutorial.__getitem__)
                yield at_least(what, limit, tutorial[worst], f" (at {spelled(worst)})")
    if most > 1:
        slowdown = {size: median(row, INSTEP, most) / median(row, INSTEP, 1) for size, row in by_size.items()}
        worst = max(slowdown, key=slowdown.__getitem__)
        yield at_most(f"{most} threads against one, any size", 1.05, slowdown[worst], "x", f" (at {spelled(worst)})")


def of_overhead(result: dict[str, Any], rule: str) -> Iterator[Claim]:
    """What surrounds the loop."""
    for row in rows_of(result, "function", rule):
        yield at_most(f"a call of instep.{rule} on ten elements", 0.6, median(row, INSTEP) * 1e6, " us")
    yield from of_small_arrays(result, rule)
    for row in rows_of(result, "import", rule):
        yield at_most("import instep over import numpy", 10, median(row, "instep") * 1e3, " ms")


def of_small_arrays(result: dict[str, Any], rule: str, prefix: str = "") -> Iterator[Claim]:
    """What surrounds the loop, for the number of arrays for which it is most of what it may be."""
    for name, way in WAYS.items():
        used = {}
        for row in rows_of(result, "overhead", rule):
            if find(row, name) is not None:
                limit, extra = surroundings(row, name)
                used[row["title"]] = extra / limit
        if used:
            worst = max(used, key=used.__getitem__)
            yield at_most(f"{prefix}{way} over its loop, of what it may take", 1, used[worst], "x", f" ({worst})")


def surroundings(row: Row, name: str) -> tuple[float, float]:
    """What a step over small arrays may take over its loop, and what it takes, in microseconds."""
    base, each = SURROUNDINGS[name]
    return base + each * 1e-3 * row["arrays"], (median(row, name) - median(row, BARE)) * 1e6


def of_workloads(result: dict[str, Any], rule: str) -> Iterator[Claim]:
    """Beside the peers; a peer that is not there cannot be judged."""
    most = result["machine"]["threads"]
    rows = {row["title"]: row for row in rows_of(result, "workloads", rule)}
    yield from of_targets(rows, rule, most)
    many, classifier = rows["1000 arrays of 1000"], rows["an MLP"]
    yield at_most(
        "1000 arrays of 1000, one thread, over its loop", 1.15, median(many, INSTEP, 1) / median(many, BARE, 1), "x"
    )
    if most > 1:
        ratio = median(classifier, INSTEP, 1) / median(classifier, INSTEP, most)
        yield at_least(f"an MLP, {most} threads against our one", 1.85, ratio)


def of_targets(rows: dict[str, Row], rule: str, most: int, prefix: str = "") -> Iterator[Claim]:
    """Beside those of the peers of this rule that it is to be held against."""
    for target in TARGETS.get(rule, ()):
        row = rows[target.workload]
        there = {name: seconds for name in target.names if (seconds := find(row, name)) is not None}
        if there:
            fastest = min(there, key=there.__getitem__)
            detail = f" ({fastest})" if len(target.names) > 1 else ""
            missing = "" if len(there) == len(target.names) else ", of those that are there"
            what = f"{prefix}{target.workload}, against {target.whom}{missing}"
            yield at_least(what, target.least, there[fastest] / median(row, INSTEP, most), detail)


def of_another(result: dict[str, Any], rule: str) -> Iterator[Claim]:
    """A rule that is not measured at length."""
    most = result["machine"]["threads"]
    for row in rows_of(result, "sizes", rule):
        if row["elements"] == IN_CACHE:
            over = "the divider" if find(row, DIVIDER) else "the roof"
            what = f"{rule}: {spelled(IN_CACHE)} elements, in cache, over {over}"
            yield at_most(what, 1.05, median(row, INSTEP, 1) / wall(row), "x")
    yield from of_small_arrays(result, rule, f"{rule}: ")
    rows = {row["title"]: row for row in rows_of(result, "workloads", rule)}
    yield from of_targets(rows, rule, most, f"{rule}: ")
    yield from of_values(result, rule, f"{rule}: ")
    large = rows["one large array"]
    yield at_least(
        f"{rule}: {spelled(large['elements'])} elements, share of the roof, {most} threads",
        0.95, roof(large, most) / median(large, INSTEP, most),
    )  # fmt: skip


def of_conditions(result: dict[str, Any], rule: str) -> Iterator[Claim]:
    """With something between the steps, or beside them."""
    most = result["machine"]["threads"]
    rows = rows_of(result, "between", rule)
    if most > 1:
        for title, limit in {row["title"]: row["limit"] for row in rows}.items():
            ratios = {
                row["elements"]: median(row, BOUND, most) / median(row, BOUND, 1)
                for row in rows
                if row["title"] == title
            }
            worst = max(ratios, key=ratios.__getitem__)
            detail = f" (at {spelled(worst)})"
            yield at_most(f"steps {title}, {most} threads against one", limit, ratios[worst], "x", detail)
    against = {
        f"{spelled(row['elements'])}, {row['title']}": min(others) / median(row, BOUND, most)
        for row in rows
        if (others := [time["median"] for time in row["times"] if time["name"] != BOUND])
    }
    if against:
        worst = min(against, key=against.__getitem__)
        yield at_least("one array between other work, against the best peer", 0.9, against[worst], f" ({worst})")


def of_values(result: dict[str, Any], rule: str, prefix: str = "") -> Iterator[Claim]:
    """The slowest that a step gets by what the arrays hold."""
    rows = [row for row in rows_of(result, "values", rule) if row["title"] != NORMAL]
    if rows:
        slowest = max(rows, key=lambda row: row["over_normal"][BOUND])
        detail = f" ({slowest['title']}, {slowest['dtype']})"
        yield at_most(f"{prefix}whatever the arrays hold", 1.2, slowest["over_normal"][BOUND], "x", detail)


def of_what_is_around(result: dict[str, Any], rule: str) -> Iterator[Claim]:
    """What comes with a step, over a plain one; and steps of some rows."""
    for row in rows_of(result, "around", rule):
        where = "in cache" if row["elements"] == AROUND_IN_CACHE else "in memory"
        for extra in extras_in(row, rule):
            limit = extra.in_cache if where == "in cache" else extra.in_memory
            if limit is not None:
                ratio = over_plain(row, extra.name, around.OURS)
                yield at_most(f"{extra.name}, {where}, over a plain step", limit, ratio, "x")
    by_count = {row["elements"] // around.TABLE[1]: row for row in rows_of(result, "rows", rule)}
    if by_count:
        judged, most = by_count[around.JUDGED], max(by_count)
        seconds = median(judged, around.ROWS)
        what = f"{around.JUDGED} rows of {spelled(around.TABLE[0])} x {around.TABLE[1]}"
        yield at_most(what, around.MOST_SECONDS * 1e6, seconds * 1e6, " us")
        ratio = median(by_count[most], around.ROWS) / most / (seconds / around.JUDGED)
        yield at_most(f"a row of {spelled(most)} over a row of {around.JUDGED}", 1.1, ratio, "x")


def extras_in(row: Row, rule: str) -> list[around.Extra]:
    """What was measured around a step: a saved result may be older than some of it."""
    return [extra for extra in around.extras_of(rule) if find(row, around.called(extra.name, around.OURS))]


def over_plain(row: Row, extra: str, way: str) -> float:
    """How many times as long as a plain step of instep."""
    return median(row, around.called(extra, way)) / median(row, around.called(around.PLAIN, around.OURS))


def of_the_run(result: dict[str, Any]) -> Iterator[Claim]:
    """Whether it was left alone: then nothing that moves as many bytes is much faster than the roof."""
    least = {
        f"{prefix}{time['name']}, {row['title']}, threads: {time['threads']}": time["median"]
        / roof(row, time["threads"])
        for row in (*result["sizes"], *result["workloads"])
        for prefix in ["" if row["rule"] == result["rules"][0] else f"{row['rule']}, "]
        for time in row["times"]
        if time["name"] != DIVIDER
    }
    fastest = min(least, key=least.__getitem__)
    yield at_least("the time of anything over the roof's", 0.95, least[fastest], f" ({fastest})")
