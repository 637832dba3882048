"""Optimizer steps in place on NumPy buffers."""

import os as _os

from . import _core, around, interchange, reference, schedules, storage
from ._build_config import VERSION as __version__
from ._core import C_API, Rows, get_num_threads, set_num_threads
from ._core import __pyx_capi__ as __pyx_capi__  # where `cimport instep` finds its functions
from .checkpoint.resume import load
from .checkpoint.state_dict import CheckpointError
from .config import show_config
from .dialects import answer_readers as _answer_readers
from .dialects import presets
from .embedding import get_include
from .optimizers import Optimizer
from .rules.adadelta import Adadelta, adadelta
from .rules.adagrad import Adagrad, adagrad
from .rules.adam import Adam, AdamW, adam, adamw
from .rules.lion import Lion, lion
from .rules.rmsprop import RMSprop, rmsprop, square_avg_of, variance_of
from .rules.rprop import Rprop, rprop
from .rules.sgd import SGD, sgd
from .rules.yogi import Yogi, yogi
from .threads import num_threads

__all__ = [
    "C_API",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "CheckpointError",
    "Lion",
    "Optimizer",
    "RMSprop",
    "Rows",
    "Rprop",
    "Yogi",
    "__version__",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "around",
    "get_include",
    "get_num_threads",
    "interchange",
    "lion",
    "load",
    "num_threads",
    "presets",
    "reference",
    "rmsprop",
    "rprop",
    "schedules",
    "set_num_threads",
    "sgd",
    "show_config",
    "square_avg_of",
    "storage",
    "variance_of",
    "yogi",
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


_answer_readers()
_read_environment()
