"""From which size do threads pay?  LINES_PER_THREAD in csrc/step.c and AWAKE_NANOSECONDS in csrc/pool.c rest on this.

    python bench/lab/threshold.py [--pause 1.0] [--threads 2] [--rounds 31] [--rule rmsprop]

Steps one array of every size with one thread and with several, interleaved: back to back, when the workers still look
for work, and after a pause in which they have fallen asleep, as they have when a trainer computes its gradients.

A step wakes nobody below LINES_PER_THREAD, so there its two columns agree; "loop" is the same kernel cut through the
pool at every size, with LINES_PER_THREAD out of the way.  The threshold belongs where its ratio crosses 1 in both
tables.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from instep import set_num_threads
from instep.benchmark.peers import start_bound
from instep.benchmark.walls import walk
from instep.benchmark.work import make_work

SIZES = [1 << k for k in range(12, 23)]


def measure(rule: str, size: int, threads: int, pause: float, rounds: int) -> dict[tuple[str, int], float]:
    """Median microseconds of a step, and of the loop alone, for one thread and for several."""
    work = make_work(rule, [(size,)])
    step, loop = start_bound(work, threads).step, walk(work)
    samples: dict[tuple[str, int], list[float]] = {
        (what, count): [] for what in ("step", "loop") for count in (1, threads)
    }
    warm = 3 if pause == 0 else 1
    for _ in range(rounds):
        for (what, count), seconds in samples.items():
            set_num_threads(count)
            for k in range(warm + 1):
                if pause:
                    sleep_awake(pause)
                begin = time.perf_counter()
                if what == "step":
                    step()
                else:
                    loop.seconds("bare", count, 1)
                if k == warm:
                    seconds.append(time.perf_counter() - begin)
    return {key: statistics.median(seconds) * 1e6 for key, seconds in samples.items()}


def sleep_awake(seconds: float) -> None:
    """Compute for so long, as a trainer does: a processor that sleeps would have to wake up, too."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pause", type=float, default=1.0, metavar="MILLISECONDS", help="between two steps (1.0)")
    parser.add_argument("--threads", type=int, default=2, help="to hold against one (2)")
    parser.add_argument("--rounds", type=int, default=31, help="samples of each number (31)")
    parser.add_argument("--rule", default="rmsprop", help="whose step (rmsprop)")
    arguments = parser.parse_args()

    console = Console()
    for title, pause in (("back to back", 0.0), (f"after {arguments.pause:g} ms", arguments.pause * 1e-3)):
        table = Table(title=title, title_justify="left")
        for column in ("elements", "lines", "step, 1", f"step, {arguments.threads}", "ratio"):
            table.add_column(column, justify="right")
        for column in ("loop, 1", f"loop, {arguments.threads}", "ratio"):
            table.add_column(column, justify="right", style="dim")
        for size in track(SIZES, title, console=console, transient=True):
            found = measure(arguments.rule, size, arguments.threads, pause, arguments.rounds)
            cells = []
            for what in ("step", "loop"):
                one, several = found[what, 1], found[what, arguments.threads]
                cells += [f"{one:.1f}", f"{several:.1f}", f"{several / one:.2f}"]
            table.add_row(f"{size:,}", f"{size * np.float32().itemsize // 64:,}", *cells)
        console.print(table)


if __name__ == "__main__":
    main()
