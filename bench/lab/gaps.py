"""Steps with other work between them, as training has: what csrc/pace.c rests on.

    python bench/lab/gaps.py [--sizes 30000 ...] [--gaps 0 0.2 1 10] [--threads 2] [--rounds 7]

One array is stepped by instep and, if it is installed, by tuned numba, each with one thread and with several,
interleaved.  Between two steps one core computes for so many milliseconds.  The first quarter of the steps is not
counted: instep learns meanwhile how far apart they are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from importlib.util import find_spec

from rich.console import Console
from rich.progress import track
from rich.table import Table

from instep import set_num_threads
from instep.benchmark.between import compute
from instep.benchmark.peers import numba_threads, start_bound, start_tuned_numba
from instep.benchmark.work import make_work

SECONDS = 0.15  # of steps and gaps that a sample adds up


def sample(step, gap: float, size: int) -> float:
    """The median seconds of a step."""
    counted = max(8, int(SECONDS / (gap + 5e-6 + 4e-10 * size)))
    taken = []
    for _ in range(counted + counted // 4 + 2):
        compute(gap)
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[-counted:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--gaps", type=float, nargs="+", default=[0, 0.2, 1, 10], help="milliseconds (0 0.2 1 10)")
    parser.add_argument("--threads", type=int, default=2, help="to hold against one (2)")
    parser.add_argument("--rounds", type=int, default=7, help="samples of each number (7)")
    arguments = parser.parse_args()

    ways = {"instep": (set_num_threads, start_bound)}
    if find_spec("numba"):
        ways["numba"] = (numba_threads, start_tuned_numba)
    who = [(name, threads) for name in ways for threads in (1, arguments.threads)]
    table = Table("elements", "gap, ms", *[f"{name}, {threads}" for name, threads in who], title="microseconds a step")
    console = Console()
    for size in track(arguments.sizes, "gaps", console=console, transient=True):
        steps = {key: ways[key[0]][1](make_work("rmsprop", [(size,)]), key[1]).step for key in who}
        for gap in arguments.gaps:
            samples: dict[tuple[str, int], list[float]] = {key: [] for key in who}
            for _ in range(arguments.rounds):
                for name, threads in who:
                    ways[name][0](threads)
                    time.sleep(2e-3)
                    samples[name, threads].append(sample(steps[name, threads], gap * 1e-3, size))
            cells = [f"{statistics.median(found) * 1e6:.1f}" for found in samples.values()]
            table.add_row(f"{size:,}", f"{gap:g}", *cells)
    console.print(table)


if __name__ == "__main__":
    main()
