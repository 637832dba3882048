"""Sums in an order that does not depend on who adds: pairwise, as a tournament is played."""

from __future__ import annotations

import numpy as np

from ..arithmetic import Array, default_arithmetic


@default_arithmetic
def add(a: Array, b: Array, out: Array) -> None:
    """In the same mode on every rank, whatever some library has set there."""
    np.add(a, b, out=out)


def add_up(parts: list[Array], out: Array) -> None:
    """``((0 + 1) + (2 + 3)) + ...`` into `out`, which may be one of the parts.  The other parts are overwritten."""
    while len(parts) > 2:
        for first, second in zip(parts[::2], parts[1::2], strict=False):
            add(first, second, out=first)
        parts = parts[::2]
    if len(parts) == 2:
        add(parts[0], parts[1], out=out)


class Pairwise:
    """Adds up in the same way what comes one after the other in the same arrays.

    Of n terms it keeps log2(n) partial sums.  Where the terms come in blocks of a power of two, the sum of these sums
    by `add_up` has the same bits.
    """

    def __init__(self, arrays: list[Array], terms: int) -> None:
        self.arrays = arrays
        self.terms = terms
        self.partial = [[np.empty_like(array) for array in arrays] for _ in range((terms - 1).bit_length())]

    def take(self, term: int) -> None:
        """Take what is in the arrays as the term of this number; after the last one, they have the sum."""
        is_last = term == self.terms - 1
        level = 0
        while term >> level & 1 or (is_last and term >> level):
            if term >> level & 1:
                for partial, array in zip(self.partial[level], self.arrays, strict=True):
                    add(partial, array, out=array)
            level += 1
        if not is_last:
            for partial, array in zip(self.partial[level], self.arrays, strict=True):
                partial[...] = array
