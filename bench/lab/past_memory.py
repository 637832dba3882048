"""How fast is a step of a model that is in files, beside the disk?  The figures of docs/how-to/past-memory.md.

    systemd-run --scope -p MemoryMax=512M python bench/lab/past_memory.py FOLDER

Adam over four files of a model of `TOTAL` bytes: a step reads all of them and writes three.  Run it in a control group
whose memory is far smaller, or the files stay in memory and nothing is measured.  The roof is a loop that reads and
writes the same bytes in large blocks, without a step between.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import instep

TOTAL = 2 << 30
BLOCK = 1 << 22  # bytes of each file
NAMES = ("param", "grad", "grad_avg", "square_avg")
WRITTEN = ("param", "grad_avg", "square_avg")
ROUNDS = 3


class Files:
    """A file for each of the arrays, as maps and to be read and written by blocks."""

    def __init__(self, folder: Path) -> None:
        size = TOTAL // len(NAMES)
        self.blocks = range(0, size, BLOCK)
        self.maps = {}
        for name in NAMES:
            path = folder / name
            with path.open("wb") as file:
                for _ in self.blocks:
                    file.write(np.full(BLOCK // 4, 0.5, np.float32))
            self.maps[name] = np.memmap(path, np.float32, "r+")
        self.open = {name: os.open(folder / name, os.O_RDWR) for name in NAMES}

    def read(self, start: int, into: dict[str, np.ndarray]) -> None:
        """A block of every file."""
        for name in NAMES:
            os.preadv(self.open[name], [into[name]], start)

    def write(self, start: int, found: dict[str, np.ndarray]) -> None:
        """A block of what a step writes."""
        for name in WRITTEN:
            os.pwrite(self.open[name], found[name], start)

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        for name in WRITTEN:
            os.fsync(self.open[name])

    def advise(self, advice: int) -> None:
        """Tell the system how the maps will be read."""
        for array in self.maps.values():
            array._mmap.madvise(advice)


def buffers() -> dict[str, np.ndarray]:
    return {name: np.empty(BLOCK // 4, np.float32) for name in NAMES}


def disk_alone(files: Files) -> None:
    """Everything is read and written, one block after the other."""
    block = buffers()
    for start in files.blocks:
        files.read(start, block)
        files.write(start, block)
    files.sync()


def disk_ahead(files: Files, step: bool = False) -> None:
    """The same, while another thread reads the next block; with the steps between, if they are to be taken."""
    both = buffers(), buffers()
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(files.read, 0, both[0])
        for number, start in enumerate(files.blocks):
            coming.result()
            block = both[number % 2]
            if start + BLOCK in files.blocks:
                coming = reader.submit(files.read, start + BLOCK, both[1 - number % 2])
            if step:
                instep.adam(block["param"], block["grad"], block["grad_avg"], block["square_avg"])
            files.write(start, block)
    files.sync()


def class_over_maps(files: Files) -> Callable[[], None]:
    maps = files.maps
    state = {name: maps[name] for name in ("grad_avg", "square_avg")}
    optimizer = instep.Adam(maps["param"], state=state)

    def step() -> None:
        optimizer.step(maps["grad"])
        files.sync()

    return step


def main(folder: str) -> None:
    files = Files(Path(folder))
    step = class_over_maps(files)

    def advised(advice: int, threads: int) -> Callable[[], None]:
        def run() -> None:
            files.advise(advice)
            with instep.num_threads(threads):
                step()

        return run

    contenders: dict[str, Callable[[], None]] = {
        "disk, a block after the other": lambda: disk_alone(files),
        "disk, read ahead": lambda: disk_ahead(files),
        "blocks by hand, read ahead": lambda: disk_ahead(files, step=True),
    }
    for threads in sorted({1, instep.get_num_threads()}):
        contenders[f"maps, {threads} threads"] = advised(mmap.MADV_NORMAL, threads)
        contenders[f"maps, sequential, {threads} threads"] = advised(mmap.MADV_SEQUENTIAL, threads)
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
            print(f"  {name}: {time.perf_counter() - start:.2f} s", flush=True)
    moved = TOTAL * (1 + len(WRITTEN) / len(NAMES))
    for name, seconds in best.items():
        print(f"{name:32} {seconds:6.2f} s {moved / seconds / 1e9:6.2f} GB/s read and written")


if __name__ == "__main__":
    main(*sys.argv[1:])
