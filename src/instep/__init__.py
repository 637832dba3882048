"""Optimizer steps in place on NumPy buffers."""

import os as _os

from . import _core, interchange, reference, schedules
from ._build_config import VERSION as __version__
from ._core import C_API, get_num_threads, set_num_threads
from ._core import __pyx_capi__ as __pyx_capi__  # where `cimport instep` finds its functions
from .config import show_config
from .embedding import get_include
from .optimizers import RMSprop, rmsprop
from .presets import presets
from .reference import square_avg_of, variance_of
from .resume import load
from .state_dict import CheckpointError
from .threads import num_threads

__all__ = [
    "C_API",
    "CheckpointError",
    "RMSprop",
    "__version__",
    "get_include",
    "get_num_threads",
    "interchange",
    "load",
    "num_threads",
    "presets",
    "reference",
    "rmsprop",
    "schedules",
    "set_num_threads",
    "show_config",
    "square_avg_of",
    "variance_of",
]


def _read_environment() -> None:
    isa = _os.environ.get("INSTEP_ISA")
    if isa:
        try:
            _core.set_isa(isa)
        except ValueError as error:
            raise ValueError(f"INSTEP_ISA: {error}") from None
    threads = _os.environ.get("INSTEP_NUM_THREADS")
    if threads:
        try:
            set_num_threads(int(threads))
        except ValueError:
            raise ValueError(f"INSTEP_NUM_THREADS={threads!r} must be an integer from 1 to 256") from None


_read_environment()
