"""The sections of a run, and the rows that they make.

A row is a workload under one rule, with the times that its contenders took, all in one interleaving:
``{"rule", "title", "arrays", "elements", "bytes", "times": [{"name", "threads", "median", "low", "high"}]}``,
in seconds a step; low and high are the quartiles, bytes those that a step moves for an element.  Some rows have more.

To measure something else, write what makes its rows, and yield a `Section` of it.
"""

from __future__ import annotations

import datetime
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import truediv
from timeit import Timer
from typing import Any

import numpy as np

import instep

from .._core import get_num_threads, set_num_threads
from ..threads import num_threads
from . import around, between, machine, peers, values
from .measure import PAUSE, Contender, Effort, interleave, nothing, python_steps
from .peers import BOUND_STEP, DROP_IN, OURS, Peer, WrongResult, cross_check, peers_of
from .variants import variants_of
from .walls import BARE, walls
from .work import Shapes, Work, dialect, elements, make_work

Row = dict[str, Any]
Report = Callable[[float], None]

POLICY: Shapes = [(64, 8), (64,), (64, 64), (64,), (4, 64), (4,)]
CLASSIFIER: Shapes = [(512, 784), (512,), (512, 512), (512,), (10, 512), (10,)]
WORKLOADS: dict[str, Shapes] = {
    "an RL policy": POLICY,
    "an MLP": CLASSIFIER,
    "1000 arrays of 1000": [(1000,)] * 1000,
}
MOST_ARRAYS_COMPILED = 100  # beyond which compiling a step takes minutes
IN_CACHE = 100_000  # elements that stay in cache with all their states, and beside whose steps a call is little
VARIANTS = 12  # about as many as a rule has
IN_MEMORY, NEARBY = "around a step, in memory", "around a step, in cache"
AROUND_IN_CACHE = 65_536
PASSES = Peer("", peers.start_twin, of_element=3e-9)  # of NumPy or torch, and a step: how long they take together
WALKS = 5  # walls, on one thread or on all
MAKING = 5e-8  # seconds to make the arrays of an element and to copy them


@dataclass(frozen=True)
class Section:
    """A part of a run: what it is about, the seconds that it is expected to take, the rows that it makes."""

    name: str
    rule: str
    title: str
    seconds: float
    effort: Effort
    run: Callable[[Effort, Report], list[Row]]


@dataclass(frozen=True)
class Scale:
    """How large a run is, for the rule that comes first; `short` is it for the others."""

    effort: Effort
    sizes: tuple[int, ...]
    counts: tuple[int, ...]  # of small arrays
    large: int
    imports: int
    apart: tuple[int, ...]  # sizes that are stepped with something between or beside the steps
    thorough: bool = True  # with the workloads and compilations that take long
    options: bool = True

    @property
    def in_memory(self) -> int:
        """Elements of a rule's variants, of which some have more states."""
        return min(self.large, beyond_cache())

    @property
    def short(self) -> Scale:
        """For a rule of many."""
        effort = Effort(max(3, self.effort.rounds // 2), self.effort.batch / 2, self.effort.patience / 5)
        chosen = (1_000, 10_000, IN_CACHE, 1_000_000) if self.thorough else (IN_CACHE,)
        sizes = tuple(size for size in self.sizes if size in chosen)
        return replace(
            self, effort=effort, sizes=sizes, counts=(6, self.counts[-1]), imports=0, apart=(), options=False
        )


def full_scale() -> Scale:
    """Minutes."""
    sizes = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
    large = affordable(64_000_000)
    return Scale(
        Effort(15, 8e-3, 30), (*sizes, large), (1, 6, 30, 100, 300, 1000), large, 15, (30_000, 300_000, 1_000_000)
    )


def quick_scale() -> Scale:
    """A minute."""
    large = affordable(min(beyond_cache(), 12_000_000))
    return Scale(
        Effort(5, 2e-3, 3), (10, 100, 1_000, 10_000, 100_000, 1_000_000), (1, 6, 1000), large, 5, (300_000,), False
    )


def tiny_scale() -> Scale:
    """For the tests: seconds, and numbers that mean nothing."""
    return Scale(Effort(3, 1e-5, 0), (10, 1_000, 10_000, 100_000), (1, 6), 1_000_000, 1, (1_000, 100_000), False)


def beyond_cache() -> int:
    """Elements whose parameter, gradient and state take four times the last-level cache, in whole millions."""
    return -(-4 * machine.last_level_cache() // (12 * 1_000_000)) * 1_000_000


def affordable(size: int) -> int:
    """So many elements, or as many as fit the free memory together with what the peers copy."""
    return min(size, machine.free_memory() // 100)


def sections(scale: Scale, found: dict[str, list[Peer]]) -> Iterator[Section]:
    """The parts of a run, in order; the first rule is measured at length."""
    scales = {kind: scale.short if k else scale for k, kind in enumerate(found)}
    # First, in a heap in which nothing has scattered small arrays.
    for kind, at in scales.items():
        for count in at.counts:
            shapes: Shapes = [(10,)] * count
            among = [*OURS, *[one for one in found[kind] if one.name == DROP_IN]]
            run = partial(overhead, kind, shapes, among)
            title = "1 array of 10" if count == 1 else f"{count} arrays of 10"
            yield Section("overhead", kind, title, expected(shapes, [*OURS, *among], at.effort), at.effort, run)
        yield Section(
            "function",
            kind,
            f"instep.{kind}",
            expected([(10,)], [BOUND_STEP], at.effort),
            at.effort,
            partial(function, kind),
        )  # fmt: skip
    for kind, at in scales.items():
        swept = [one for one in found[kind] if one.swept and (at.thorough or not one.compiles)]
        for size in at.sizes:
            yield comparison("sizes", kind, f"one array of {size:,}".replace(",", " "), [(size,)], swept, at)
        for title, shapes in WORKLOADS.items():
            yield comparison("workloads", kind, title, shapes, found[kind], at)
        yield comparison("workloads", kind, "one large array", [(at.large,)], found[kind], at)
        if at.options:
            for title, size in (("options, in cache", 16_384), ("options, in memory", at.in_memory)):
                seconds = expected([(size,)], [BOUND_STEP] * VARIANTS, at.effort) + VARIANTS * MAKING * size
                yield Section("options", kind, title, seconds, at.effort, partial(options, kind, size))
            if around.is_possible():
                yield from what_is_around(kind, any("torch" in one.needs for one in found[kind]), at)
        for size in at.apart:
            yield steps_apart(kind, size, swept, at)
        yield what_arrays_hold(kind, swept if at.options else [], at)
        if at.imports:
            yield Section("import", kind, "the import", at.imports / 3, at.effort, partial(imports, at.imports))


def comparison(name: str, kind: str, title: str, shapes: Shapes, others: list[Peer], at: Scale) -> Section:
    """A step beside the walls and the others, with the divider where the arrays are swept."""
    taking = [
        one for one in others
        if elements(shapes) <= one.most_elements and not (one.compiles and len(shapes) > MOST_ARRAYS_COMPILED)
    ]  # fmt: skip
    turns = [BOUND_STEP] * WALKS
    turns += [one for one in (*OURS, *taking) for _ in one.thread_counts(get_num_threads())]
    seconds = expected(shapes, turns, at.effort) + sum(one.compiles for one in taking)
    return Section(name, kind, title, seconds, at.effort, partial(compare, kind, shapes, others, name == "sizes"))


def what_arrays_hold(kind: str, others: list[Peer], at: Scale) -> Section:
    """A step in both types and, in float32, the steps of those others whose states can be filled."""
    among = [one for one in others if one.fills and not one.compiles]
    turns = [BOUND_STEP, BOUND_STEP, *among] * len(values.held(np.float32))
    # Many short rounds, for each is judged by itself, and by the worst of many rows.
    effort = replace(at.effort, rounds=4 * at.effort.rounds, batch=at.effort.batch / 4)
    seconds = expected([(values.SIZE,)], turns, effort)
    return Section("values", kind, "what the arrays hold", seconds, effort, partial(held, kind, among))


def what_is_around(kind: str, with_torch: bool, at: Scale) -> Iterator[Section]:
    """All that may come with a step, over an array in memory and one in cache, and steps of some rows of a table."""
    for title, size in ((IN_MEMORY, at.large), (NEARBY, AROUND_IN_CACHE)):
        threads = 1 if title == NEARBY else get_num_threads()
        # Many short samples, for limits are near to 1.
        effort = replace(at.effort, rounds=6 * at.effort.rounds, batch=at.effort.batch / 8)
        extras = len(around.extras_of(kind))
        ours = partial(around.contenders, kind, size, threads)
        others = partial(around.others, kind, size, threads, with_torch)
        for name, make, turns in (("around", ours, [BOUND_STEP] * extras), ("passes", others, [PASSES] * 2 * extras)):
            seconds = expected([(size,)], turns, effort) + 2 * MAKING * size
            yield Section(name, kind, title, seconds, effort, partial(surrounded, make, title, 1, size))
    for touched in around.TOUCHED:
        seconds = expected([around.TABLE], [PASSES] * 5, at.effort)
        make = partial(around.contenders_over_rows, kind, touched, with_torch)
        title = f"{touched} rows of {around.TABLE[0]}"
        run = partial(surrounded, make, title, 1, touched * around.TABLE[1])
        yield Section("rows", kind, title, seconds, at.effort, run)


def steps_apart(kind: str, size: int, others: list[Peer], at: Scale) -> Section:
    """A step under every condition, beside those others that have threads."""
    among = [one for one in others if not one.serial]
    effort = replace(at.effort, rounds=max(3, at.effort.rounds // 2), batch=4 * at.effort.batch)
    turns = [one for one in (BOUND_STEP, *among) for _ in one.thread_counts(get_num_threads())]
    samples = sum(condition.length for condition in between.conditions())
    seconds = samples * expected([(size,)], turns, effort) + sum(one.compiles for one in among)
    run = partial(apart, kind, size, among)
    return Section("between", kind, f"one array of {size:,} between other work".replace(",", " "), seconds, effort, run)


def expected(shapes: Shapes, turns: list[Peer], effort: Effort) -> float:
    """Roughly the seconds that these contenders take together, each of whom has a turn in a round."""
    steps = [one.step_seconds(len(shapes), elements(shapes)) for one in turns]
    to_begin = sum(max(2 * effort.batch, 3 * step) for step in steps) + MAKING * elements(shapes)
    a_round = sum(PAUSE + max(1.3 * effort.batch, step) for step in steps)
    return to_begin + min(effort.rounds * a_round, max(effort.patience + a_round / 2, 3 * a_round))


def installed(kinds: list[str]) -> dict[str, list[Peer]]:
    """The peers of every rule that might run here."""
    return {kind: [peer for peer in peers_of(kind) if not peer.missing] for kind in kinds}


def building(found: dict[str, list[Peer]]) -> float:
    """The seconds that it takes to load, build and check all of these."""
    return sum(one.built for of_rule in found.values() for one in of_rule)


def expected_seconds(scale: Scale, kinds: list[str]) -> float:
    """Of a run, if all peers that are installed take part."""
    found = installed(kinds)
    return building(found) + sum(part.seconds for part in sections(scale, found))


def run(
    scale: Scale, kinds: list[str], on_progress: Callable[[str, float], None] = lambda title, done: None
) -> dict[str, Any]:
    """All of it.

    Parameters
    ----------
    scale : Scale
        `quick_scale()` or `full_scale()`.
    kinds : list of str
        Rules and variants, the one to measure at length first.
    on_progress : callable
        Told what is being measured and which part of the whole is done, from 0 to 1.

    Returns
    -------
    dict
        What `json.dumps` takes; `report`, `picture` and `claims` are made from it.
    """
    candidates = {kind: list(peers_of(kind)) for kind in kinds}
    everyone = [peer for found in candidates.values() for peer in found]
    result: dict[str, Any] = {
        "format": 3,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": not scale.thorough,
        "machine": machine.describe(),
        "versions": peers.versions(everyone),
        "rules": kinds,
        "dialects": {kind: dialect(kind).values() for kind in kinds},
        "dtype": "float32",
        "rounds": scale.effort.rounds,
        "large": scale.large,
        "left_out": {},
    }
    total, done = expected_seconds(scale, kinds), 0.0
    with num_threads(get_num_threads()):
        found: dict[str, list[Peer]] = {}
        for kind in kinds:
            on_progress(f"{kind}: cross-check", done / total)
            found[kind], left_out = choose(kind, candidates[kind])
            for name, why in left_out.items():
                if result["left_out"].setdefault(name, why) != why:
                    result["left_out"][f"{name}, {kind}"] = why
            done += building({kind: found[kind]})
        if not around.is_possible():
            result["left_out"]["what is around a step"] = "ml_dtypes not installed"
        parts = list(sections(scale, found))
        total = done + sum(part.seconds for part in parts)
        for part in parts:
            title = part.title if part.rule == kinds[0] else f"{part.rule}: {part.title}"

            def report(fraction: float, title: str = title, part: Section = part, done: float = done) -> None:
                on_progress(title, min((done + part.seconds * fraction) / total, 1.0))

            report(0.0)
            for row in part.run(part.effort, report):
                result.setdefault(part.name, []).append({"rule": part.rule, "title": part.title} | row)
            done += part.seconds
    on_progress("", 1.0)
    return result


def choose(kind: str, candidates: list[Peer]) -> tuple[list[Peer], dict[str, str]]:
    """Those that are installed and compute the same, and why the others are left out."""
    found: list[Peer] = []
    left_out = {}
    for peer in candidates:
        if peer.missing:
            left_out[peer.name] = f"{' and '.join(peer.missing)} not installed"
            continue
        try:
            cross_check(peer, kind, POLICY, get_num_threads())
            found.append(peer)
        except WrongResult as wrong:
            left_out[peer.name] = f"another result: {wrong}"
        except Exception as error:  # a peer that does not run here is a finding, not a reason to stop
            left_out[peer.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return found, left_out


# ---- rows -------------------------------------------------------------------------------------------------------


def row(work: Work, samples: dict[tuple[str, int], list[float]]) -> Row:
    """The row of these samples."""
    facts = {"arrays": len(work.params), "elements": work.elements, "bytes": work.bytes}
    return facts | {"times": times(samples)}


def times(samples: dict[tuple[str, int], list[float]]) -> list[Row]:
    """Medians and quartiles."""
    found = []
    for (name, threads), seconds in samples.items():
        low, middle, high = statistics.quantiles(seconds * 2, n=4, method="inclusive")
        found.append(
            {"name": name, "threads": threads}
            | {key: float(f"{value:.5g}") for key, value in (("median", middle), ("low", low), ("high", high))}
        )
    return found


def compare(
    kind: str, shapes: Shapes, others: list[Peer], with_divider: bool, effort: Effort, report: Report
) -> list[Row]:
    """A step over arrays of these shapes: the walls, instep, and the others."""
    most = get_num_threads()
    work = make_work(kind, shapes)
    left_out = {}
    contenders = walls(work, with_divider)
    for peer in (*OURS, *others):
        if work.elements > peer.most_elements:
            left_out[peer.name] = "takes too long"
            continue
        if peer.compiles and len(shapes) > MOST_ARRAYS_COMPILED:
            left_out[peer.name] = "compiling it takes minutes"
            continue
        for threads in peer.thread_counts(most):
            prepare = partial(peer.use_threads, threads) if peer.use_threads else nothing
            prepare()
            try:
                started = peer.start(work.under(dialect(kind, peer.framework)), threads)
            except Exception as error:  # out of memory, most of all
                left_out[peer.name] = f"{type(error).__name__}: {error}"
                break
            contenders.append(Contender(peer.name, threads, python_steps(started.step), prepare))
    found = row(work, interleave(contenders, effort, report)) | {"left_out": left_out}
    set_num_threads(most)
    return [found]


def overhead(kind: str, shapes: Shapes, among: list[Peer], effort: Effort, report: Report) -> list[Row]:
    """A step over small arrays beside its loop."""
    work = make_work(kind, shapes)
    with num_threads(1):
        contenders = [one for one in walls(work, with_divider=False) if one.name == BARE]
        contenders += [Contender(peer.name, 1, python_steps(peer.start(work, 1).step)) for peer in among]
        return [row(work, interleave(contenders, effort, report))]


def function(kind: str, effort: Effort, report: Report) -> list[Row]:
    """A call of the function on ten elements."""
    work = make_work(kind, [(10,)])
    names = dict(zip(("param", "grad", *work.states), work.of_each[0], strict=True))
    call = Timer(f"step({', '.join(names)}, lr=0.01)", globals=names | {"step": getattr(instep, kind)})
    return [row(work, interleave([Contender(peers.INSTEP, 1, call.timeit)], effort, report))]


def options(kind: str, size: int, effort: Effort, report: Report) -> list[Row]:
    """The variants of the rule on one thread, with the bytes that each moves."""
    contenders, moved = [], {}
    for name, changes in variants_of(kind).items():
        work = make_work(kind, [(size,)], options=dialect(kind).replace({"lr": 1e-4} | changes, (np.float32,)))
        contenders.append(Contender(name, 1, python_steps(peers.start_bound(work, 1).step)))
        moved[name] = work.bytes
    with num_threads(1):
        return [row(work, interleave(contenders, effort, report)) | {"bytes": moved}]


def surrounded(
    make: Callable[[], Iterator[Contender]], title: str, arrays: int, elements: int, effort: Effort, report: Report
) -> list[Row]:
    """A row of the contenders over arrays of their own."""
    with num_threads(get_num_threads()):
        samples = interleave([*make()], effort, report)
    return [{"arrays": arrays, "elements": elements, "bytes": 0, "times": times(samples)}]


def held(kind: str, others: list[Peer], effort: Effort, report: Report) -> list[Row]:
    """A row for each thing that the arrays may hold, and for normal numbers; one thread.

    ``over_normal`` is how many times as long as over those a contender takes: the median over the rounds, for the
    machine may be slower in one than in the next.
    """
    rows = []
    for k, dtype in enumerate((np.float32, np.float64)):
        contenders, works = {}, {}
        shared: dict[str, Work] = {}

        def on_round(done: float, k: int = k) -> None:
            report((k + done) / 2)

        with num_threads(1), np.errstate(all="ignore"):
            for what in values.held(dtype):
                for peer in (BOUND_STEP, *(others if dtype == np.float32 else ())):
                    if (work := values.holding(kind, what, dtype, peer.framework)) is not None:
                        works[what] = work
                        arrays = shared.setdefault(peer.name, work.copy())
                        contenders[what, peer.name] = refilled(peer, work, arrays, f"{peer.name}: {what}")
            samples = interleave([*contenders.values()], effort, on_round)
        for what, work in works.items():
            of_what = {name: samples[one.name, 1] for (held, name), one in contenders.items() if held == what}
            over_normal = {
                name: over_rounds(seconds, samples[contenders[values.NORMAL, name].name, 1])
                for name, seconds in of_what.items()
            }
            times_of = {(name, 1): seconds for name, seconds in of_what.items()}
            rows.append(
                row(work, times_of) | {"title": what, "dtype": np.dtype(dtype).name, "over_normal": over_normal}
            )
    return rows


def over_rounds(seconds: list[float], others: list[float]) -> float:
    """How many times as long as another a contender took, in the middle of the rounds of both."""
    return float(f"{statistics.median(map(truediv, seconds, others)):.5g}")


def refilled(peer: Peer, work: Work, shared: Work, name: str) -> Contender:
    """A peer with one thread over arrays that it shares with others; before each turn they get what the work holds."""

    def prepare() -> None:
        if peer.use_threads:
            peer.use_threads(1)
        for array, values_of in zip(shared.of_each[0], work.of_each[0], strict=True):
            array[...] = values_of

    prepare()
    return Contender(name, 1, python_steps(peer.start(shared.under(work.options), 1).step), prepare)


def apart(kind: str, size: int, others: list[Peer], effort: Effort, report: Report) -> list[Row]:
    """A row for each condition."""
    most = get_num_threads()
    work = make_work(kind, [(size,)])
    started: list[tuple[Peer, int, Callable[[], None], Callable[[], Any]]] = []
    for peer in (BOUND_STEP, *others):
        for threads in peer.thread_counts(most):
            prepare = partial(peer.use_threads, threads) if peer.use_threads else nothing
            prepare()
            step = peer.start(work.under(dialect(kind, peer.framework)), threads).step
            started.append((peer, threads, prepare, step))
    set_num_threads(most)
    rows = []
    conditions = between.conditions()
    for k, condition in enumerate(conditions):

        def on_round(done: float, k: int = k) -> None:
            report((k + done) / len(conditions))

        with condition.hold() as before:
            contenders = [
                Contender(
                    peer.name, threads, partial(between.steps_after, before, prepare, step), prepare, condition.seconds
                )
                for peer, threads, prepare, step in started
            ]
            samples = interleave(contenders, replace(effort, batch=effort.batch * condition.length), on_round)
        set_num_threads(most)
        rows.append(row(work, samples) | {"title": condition.title, "limit": condition.limit})
    return rows


def imports(repeats: int, effort: Effort, report: Report) -> list[Row]:
    """What `import instep` takes in a process that has imported NumPy, and what importing NumPy took."""
    program = (
        "import time; a = time.perf_counter(); import numpy; b = time.perf_counter(); import instep; "
        "print(b - a, time.perf_counter() - b)"
    )
    samples: dict[tuple[str, int], list[float]] = {("numpy", 1): [], ("instep", 1): []}
    for k in range(repeats):
        numpy_seconds, instep_seconds = map(
            float, subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split()
        )
        samples["numpy", 1].append(numpy_seconds)
        samples["instep", 1].append(instep_seconds)
        report((k + 1) / repeats)
    return [{"arrays": 0, "elements": 0, "bytes": 0, "times": times(samples)}]
