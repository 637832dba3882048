"""Many arrays as views of one buffer for each dtype, which is cut into shards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .._core import Nest
from ..arithmetic import Array

LINE = 64  # bytes: no two arrays, and no two shards, have a cache line in common

Buffers = dict[str, Array]
Cuts = dict[str, list[int]]


class Flat:
    """Where the arrays of a nesting stand: one after the other in a buffer for each dtype, by the dtype's name."""

    def __init__(self, params: Any) -> None:
        leaves: list[Any] = []
        self.paths: list[tuple[Any, ...]] = []
        self.nest = Nest.of(params, leaves, self.paths)
        for path, leaf in zip(self.paths, leaves, strict=True):
            what = spell("params", path)
            check_array(what, leaf)
            if leaf.dtype not in (np.float32, np.float64) or not leaf.dtype.isnative:
                raise TypeError(f"{what} must be float32 or float64 in the machine's byte order, not {leaf.dtype}")
        _check_apart(self.paths, leaves)
        self.given = leaves
        self.shapes: list[tuple[int, ...]] = [leaf.shape for leaf in leaves]
        self.dtypes: list[str] = [leaf.dtype.name for leaf in leaves]
        self.offsets: list[int] = []
        self.sizes: dict[str, int] = dict.fromkeys(sorted(set(self.dtypes)), 0)
        for leaf, name in zip(leaves, self.dtypes, strict=True):
            self.offsets.append(self.sizes[name])
            self.sizes[name] += -(-leaf.size // in_line(name)) * in_line(name)

    def buffers(self) -> Buffers:
        """New ones, of zeros, which take no memory before they are written."""
        made = {}
        for name, size in self.sizes.items():
            memory = np.zeros(size * np.dtype(name).itemsize + LINE, np.uint8)
            start = -memory.ctypes.data % LINE
            made[name] = memory[start : start + memory.size - LINE].view(name)
        return made

    def views(self, buffers: Buffers) -> list[Array]:
        """The arrays in these buffers."""
        return [
            buffers[name][offset : offset + math.prod(shape)].reshape(shape)
            for name, offset, shape in zip(self.dtypes, self.offsets, self.shapes, strict=True)
        ]

    def cuts(self, shards: int) -> Cuts:
        """Where each buffer is cut into this many shards, of the same number of cache lines, give or take one."""
        return {
            name: [size // in_line(name) * shard // shards * in_line(name) for shard in range(shards + 1)]
            for name, size in self.sizes.items()
        }

    def pieces(self, views: list[Array], cuts: Cuts, shard: int) -> list[Array]:
        """What of each array is in a shard: flat, and empty where nothing is."""
        return [
            view.reshape(-1)[part(offset, view.size, cuts[name][shard], cuts[name][shard + 1])]
            for view, name, offset in zip(views, self.dtypes, self.offsets, strict=True)
        ]


def in_line(dtype: str) -> int:
    """How many elements a cache line has."""
    return LINE // np.dtype(dtype).itemsize


def part(offset: int, size: int, start: int, stop: int) -> slice:
    """Which elements of an array of this size, which starts at this offset of a buffer, are in this part of it."""
    first = min(max(start - offset, 0), size)
    return slice(first, max(min(stop - offset, size), first))


def spell(root: str, path: tuple[Any, ...]) -> str:
    """How an array of a nesting is written in Python."""
    return root + "".join(f"[{key!r}]" for key in path)


def check_array(what: str, value: Any) -> None:
    """Refuse what is not a plain array."""
    if type(value) not in (np.ndarray, np.memmap):
        raise TypeError(f"{what} must be a numpy.ndarray, not a value of type {type(value).__name__}")


def _check_apart(paths: list[tuple[Any, ...]], arrays: list[Array]) -> None:
    """Refuse arrays that have elements in common, such as tied weights: copies of them would not stay alike."""
    others: list[tuple[int, int]] = []  # where those that start before end, and which they are
    for start, end, k in sorted((*byte_bounds(array), k) for k, array in enumerate(arrays) if array.size):
        others = [other for other in others if other[0] > start]
        for _, other in others:
            if np.shares_memory(arrays[k], arrays[other]):
                raise ValueError(f"{spell('params', paths[k])} overlaps {spell('params', paths[other])} in memory")
        others.append((end, k))
