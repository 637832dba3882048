"""The sections of a run, and the rows that they make.

A row is a workload with the times that its contenders took, all in one interleaving:
``{"title", "arrays", "elements", "times": [{"name", "threads", "median", "low", "high"}], "left_out": {name: why}}``,
in seconds a step; low and high are the quartiles.
"""

from __future__ import annotations

import datetime
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from timeit import Timer
from typing import Any

import numpy as np

from .. import rmsprop
from .._bench import Walk
from .._core import get_num_threads, isas, set_num_threads
from ..rules.rmsprop import RMSprop
from ..threads import num_threads
from . import machine, peers
from .measure import Contender, Effort, interleave, nothing, python_steps
from .peers import DIALECT, EPS, LR, PEERS, RHO, Arrays, Peer, WrongResult, cross_check

Row = dict[str, Any]
Shapes = list[tuple[int, ...]]
Report = Callable[[float], None]

DIVIDER, ROOF = "the divider", "the roof"
POLICY: Shapes = [(64, 8), (64,), (64, 64), (64,), (4, 64), (4,)]
CLASSIFIER: Shapes = [(512, 784), (512,), (512, 512), (512,), (10, 512), (10,)]
SWEPT = (
    "a loop in Python",
    peers.TUTORIAL,
    "NumPy with out= and scratch",
    peers.TUNED_NUMBA,
    peers.TORCH,
    peers.COMPILED,
    peers.OPTAX,
)
# A step of these takes, or their compilation takes, minutes beyond so much.
MOST_ELEMENTS = {"a loop in Python": 1_000_000}
MOST_ARRAYS_COMPILED = 100

PLAIN = "plain"
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: dict(),
    "eps_inside": dict(eps_inside=True),
    "bias_correction": dict(bias_correction=True),
    "maximize": dict(maximize=True),
    "weight_decay": dict(weight_decay=1e-4),
    "decoupled_weight_decay": dict(weight_decay=1e-4, decoupled_weight_decay=True),
    "momentum": dict(momentum=0.9),
    "momentum, nesterov": dict(momentum=0.9, nesterov=True),
    "momentum, lr_in_momentum": dict(momentum=0.9, lr_in_momentum=True),
    "centered": dict(centered=True),
    "centered, momentum": dict(centered=True, momentum=0.9),
}


@dataclass(frozen=True)
class Section:
    """A part of a run: what it is about, how long it takes compared with the others, the rows that it makes."""

    name: str
    title: str
    weight: float
    run: Callable[[Effort, Report], list[Row]]


@dataclass(frozen=True)
class Scale:
    """How large a run is."""

    effort: Effort
    sizes: tuple[int, ...]
    counts: tuple[int, ...]  # of small arrays
    large: int
    imports: int
    thorough: bool = True  # with the workloads and compilations that take long


def full_scale() -> Scale:
    """Some five minutes."""
    sizes = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
    large = max(64_000_000, beyond_cache())
    large = large if large * 50 < machine.free_memory() else beyond_cache()
    return Scale(Effort(15, 8e-3, 30), (*sizes, large), (1, 6, 30, 100, 300, 1000), large, 15)


def quick_scale() -> Scale:
    """Under a minute."""
    large = beyond_cache()
    sizes = (10, 100, 1_000, 10_000, 100_000, 1_000_000, large)
    return Scale(Effort(5, 2e-3, 3), sizes, (1, 6, 100, 1000), large, 5, thorough=False)


def tiny_scale() -> Scale:
    """For the tests: seconds, and numbers that mean nothing."""
    return Scale(Effort(3, 1e-5, 0), (10, 1_000, 100_000), (1, 6), 1_000_000, 1, thorough=False)


def beyond_cache() -> int:
    """Elements whose parameter, gradient and state take four times the last-level cache, in whole millions."""
    return -(-4 * machine.last_level_cache() // (12 * 1_000_000)) * 1_000_000


def sections(scale: Scale, contenders: list[Peer]) -> Iterator[Section]:
    """The parts of a run, in order."""
    swept = [one for one in contenders if one.name in SWEPT and (scale.thorough or not one.compiles)]
    # First, in a heap in which nothing has scattered small arrays.
    for count in scale.counts:
        yield Section("overhead", f"{count} arrays of 10", 0.2, partial(overhead, count))
    yield Section("function", "instep.rmsprop", 0.2, function)
    for size in scale.sizes:
        title = f"one array of {size:,}".replace(",", " ")
        yield Section("sizes", title, 1 + size / 3e6, partial(compare, [(size,)], swept, True))
    workloads: dict[str, Shapes] = {
        "an RL policy": POLICY,
        "an MLP": CLASSIFIER,
        "1000 arrays of 1000": [(1000,)] * 1000,
        "one large array": [(scale.large,)],
    }
    if not scale.thorough:
        del workloads["an MLP"]
    for title, shapes in workloads.items():
        yield Section("workloads", title, 5 + elements(shapes) / 1e6, partial(compare, shapes, contenders, False))
    for title, size in (("options, in cache", 16_384), ("options, in memory", min(scale.large, beyond_cache()))):
        yield Section("options", title, 1 + size / 3e6, partial(options, size))
    yield Section("subnormal", "subnormal averages", 0.5, subnormal)
    yield Section("import", "the import", 3, partial(imports, scale.imports))


def run(scale: Scale, on_progress: Callable[[str, float], None] = lambda title, done: None) -> dict[str, Any]:
    """All of it.

    Parameters
    ----------
    scale : Scale
        `quick_scale()` or `full_scale()`.
    on_progress : callable
        Told what is being measured and which part of the whole is done, from 0 to 1.

    Returns
    -------
    dict
        What `json.dumps` takes; `report`, `picture` and `claims` are made from it.
    """
    result: dict[str, Any] = {
        "format": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": not scale.thorough,
        "machine": machine.describe(),
        "versions": peers.versions(),
        "dialect": {"lr": LR, "rho": RHO, "eps": EPS, "dtype": "float32"},
        "rounds": scale.effort.rounds,
        "large": scale.large,
    }
    with num_threads(get_num_threads()):
        on_progress("cross-check", 0.0)
        found, result["left_out"] = choose(PEERS)
        parts = list(sections(scale, found))
        total, done = sum(part.weight for part in parts), 0.0
        for part in parts:

            def report(fraction: float, part: Section = part, done: float = done) -> None:
                on_progress(part.title, (done + part.weight * fraction) / total)

            report(0.0)
            for row in part.run(scale.effort, report):
                result.setdefault(part.name, []).append({"title": part.title} | row)
            done += part.weight
    return result


def choose(candidates: tuple[Peer, ...]) -> tuple[list[Peer], dict[str, str]]:
    """Those that are installed and compute the same, and why the others are left out."""
    found: list[Peer] = []
    left_out = {}
    for peer in candidates:
        if peer.missing:
            left_out[peer.name] = f"{' and '.join(peer.missing)} not installed"
            continue
        try:
            if not peer.another_rule:
                cross_check(peer, POLICY, get_num_threads())
            found.append(peer)
        except WrongResult as wrong:
            left_out[peer.name] = f"another result: {wrong}"
        except Exception as error:  # a peer that does not run here is a finding, not a reason to stop
            left_out[peer.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return found, left_out


# ---- rows -------------------------------------------------------------------------------------------------------


def make_arrays(shapes: Shapes) -> tuple[Arrays, Arrays, Arrays]:
    """Params, grads and square_avgs whose values stay normal however often they are stepped.

    The gradients are positive, because the roof, which shares the arrays, adds them to what others take the root of.
    """
    generator = np.random.default_rng(0)
    params = [np.ones(shape, np.float32) for shape in shapes]
    grads = [generator.random(shape, np.float32) for shape in shapes]
    for grad in grads:
        grad += np.float32(0.5)
    return params, grads, [np.ones(shape, np.float32) for shape in shapes]


def walk(params: Arrays, grads: Arrays, square_avgs: Arrays, isa: str | None = None) -> Walk:
    """The loops over these arrays."""
    return Walk(DIALECT, params, grads, {"square_avg": square_avgs}, isa)


def elements(shapes: Shapes) -> int:
    """Of all arrays."""
    return sum(math.prod(shape) for shape in shapes)


def row(shapes: Shapes, samples: dict[tuple[str, int], list[float]]) -> Row:
    """The row of these samples."""
    times = []
    for (name, threads), seconds in samples.items():
        low, middle, high = statistics.quantiles(seconds * 2, n=4, method="inclusive")
        times.append(
            {"name": name, "threads": threads}
            | {key: float(f"{value:.5g}") for key, value in (("median", middle), ("low", low), ("high", high))}
        )
    return {"arrays": len(shapes), "elements": elements(shapes), "times": times}


def divider(few: Walk, resident: int, size: int, steps: int) -> float:
    """The time that the divider takes for so many elements, a few of which are walked over and over."""
    walks = -(-steps * size // resident)
    return few.seconds("divider", 1, walks) * (steps * size) / (walks * resident)


def walls(arrays: tuple[Arrays, Arrays, Arrays], with_divider: bool) -> list[Contender]:
    """The bare loop and the roof over these arrays, and the divider over a few that stay in the first cache."""
    bare, size, resident = walk(*arrays), sum(param.size for param in arrays[0]), 1024
    roofs = [walk(*arrays, isa) for isa, runs in isas().items() if runs]
    found = []
    for threads in sorted({1, get_num_threads()}):
        # The widest vectors are the fastest in cache and not always in memory.
        roof = min(roofs, key=lambda one: min(one.seconds("roof", threads, 1) for _ in range(7)))
        found.append(Contender(peers.BARE, threads, partial(bare.seconds, "bare", threads)))
        found.append(Contender(ROOF, threads, partial(roof.seconds, "roof", threads)))
    if with_divider:
        found.append(Contender(DIVIDER, 1, partial(divider, walk(*make_arrays([(resident,)])), resident, size)))
    return found


def compare(shapes: Shapes, others: list[Peer], with_divider: bool, effort: Effort, report: Report) -> list[Row]:
    """A step over arrays of these shapes: the walls, instep, and the others."""
    most = get_num_threads()
    arrays = make_arrays(shapes)
    left_out = {}
    contenders = walls(arrays, with_divider)
    for peer in (*peers.OURS, *others):
        if elements(shapes) > MOST_ELEMENTS.get(peer.name, math.inf):
            left_out[peer.name] = "takes too long"
            continue
        if peer.compiles and len(shapes) > MOST_ARRAYS_COMPILED:
            left_out[peer.name] = "compiling it takes minutes"
            continue
        for threads in peer.thread_counts(most):
            prepare = partial(peer.use_threads, threads) if peer.use_threads else nothing
            prepare()
            try:
                started = peer.start(*arrays, threads)
            except Exception as error:  # out of memory, most of all
                left_out[peer.name] = f"{type(error).__name__}: {error}"
                break
            contenders.append(Contender(peer.name, threads, python_steps(started.step), prepare))
    found = row(shapes, interleave(contenders, effort, report)) | {"left_out": left_out}
    set_num_threads(most)
    return [found]


def overhead(count: int, effort: Effort, report: Report) -> list[Row]:
    """A step over small arrays beside its loop."""
    shapes: Shapes = [(10,)] * count
    arrays = make_arrays(shapes)
    with num_threads(1):
        contenders = [one for one in walls(arrays, with_divider=False) if one.name == peers.BARE]
        contenders += [Contender(peer.name, 1, python_steps(peer.start(*arrays, 1).step)) for peer in peers.OURS]
        return [row(shapes, interleave(contenders, effort, report))]


def function(effort: Effort, report: Report) -> list[Row]:
    """A call of the function on ten elements."""
    (param,), (grad,), (square_avg,) = make_arrays([(10,)])
    names = {"rmsprop": rmsprop, "param": param, "grad": grad, "square_avg": square_avg}
    call = Timer("rmsprop(param, grad, square_avg, lr=0.01)", globals=names)
    return [row([(10,)], interleave([Contender(peers.INSTEP, 1, call.timeit)], effort, report))]


def options(size: int, effort: Effort, report: Report) -> list[Row]:
    """The variants of the rule on one thread, with the bytes that each moves."""
    (param,), (grad,), _ = make_arrays([(size,)])
    contenders, moved = [], {}
    for name, variant in VARIANTS.items():
        optimizer = RMSprop([param], lr=1e-4, rho=RHO, eps=EPS, **variant)
        optimizer.bind([grad])
        for array in optimizer.state.values():
            array[0][...] = 1
        moved[name] = param.itemsize * (3 + 2 * len(optimizer.state))
        contenders.append(Contender(name, 1, python_steps(optimizer.step)))
    with num_threads(1):
        return [row([(size,)], interleave(contenders, effort, report)) | {"bytes": moved}]


def subnormal(effort: Effort, report: Report) -> list[Row]:
    """Steps whose gradients are 0, over averages that have decayed below the normal numbers, and normal ones beside."""
    rows, size = [], 16_384
    for k, (dtype, smallest) in enumerate([(np.float32, 1e-40), (np.float64, 1e-310)]):
        contenders = []
        for name, grad, square_avg in (("normal", 1e-3, 1e-6), ("subnormal", 0.0, smallest)):
            optimizer = peers.instep_optimizer([np.ones(size, dtype)], [np.full(size, square_avg, dtype)])
            optimizer.bind([np.full(size, grad, dtype)])
            contenders.append(Contender(name, 1, python_steps(optimizer.step)))
        with num_threads(1):
            samples = interleave(contenders, effort)
        report((k + 1) / 2)
        rows.append(row([(size,)], samples) | {"title": np.dtype(dtype).name})
    return rows


def imports(times: int, effort: Effort, report: Report) -> list[Row]:
    """What `import instep` takes in a process that has imported NumPy, and what importing NumPy took."""
    program = (
        "import time; a = time.perf_counter(); import numpy; b = time.perf_counter(); import instep; "
        "print(b - a, time.perf_counter() - b)"
    )
    samples: dict[tuple[str, int], list[float]] = {("numpy", 1): [], ("instep", 1): []}
    for k in range(times):
        numpy_seconds, instep_seconds = map(
            float, subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split()
        )
        samples["numpy", 1].append(numpy_seconds)
        samples["instep", 1].append(instep_seconds)
        report((k + 1) / times)
    return [row([], samples)]
