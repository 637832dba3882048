"""How many threads a step may use, for a while and for others to decide."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ._build_config import VERSION
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
    try:  # before the call, for a signal handler may raise as that returns
        set_num_threads(threads)
        yield
    finally:
        set_num_threads(before)


@cache
def register_threadpoolctl() -> None:
    """Let threadpoolctl list and limit the threads of this package, as it does those of BLAS and OpenMP.

    Importing this package does it if threadpoolctl has been imported before; otherwise call it once.  Calls after the
    first do nothing.

    Raises
    ------
    ImportError
        threadpoolctl is not installed.

    Examples
    --------
    >>> import instep
    >>> instep.threads.register_threadpoolctl()
    >>> from threadpoolctl import threadpool_limits
    >>> with threadpool_limits(1, user_api="instep"):
    ...     instep.get_num_threads()
    1
    """
    import threadpoolctl  # type: ignore[import-not-found, import-untyped, unused-ignore]

    class Controller(threadpoolctl.LibController):  # type: ignore[misc, unused-ignore]
        user_api = internal_api = "instep"
        filename_prefixes = ("_core.",)
        check_symbols = ("instep_get_threads",)  # other packages have a _core too

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(min(num_threads, 256))  # a limit that leaves others more is none for us

        def get_version(self) -> str:
            return VERSION

    threadpoolctl.register(Controller)


if "threadpoolctl" in sys.modules:
    register_threadpoolctl()
