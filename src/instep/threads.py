"""How many threads a step may use, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ._core import get_num_threads, set_num_threads


@contextmanager
def num_threads(threads: int | None) -> Iterator[None]:
    """A context in which a large step may use this many threads; what was before comes back after it.

    The number belongs to the process, not to the thread that enters the context.

    Parameters
    ----------
    threads : int or None
        As for `set_num_threads`.
    """
    before = get_num_threads()
    set_num_threads(threads)
    try:
        yield
    finally:
        set_num_threads(before)
