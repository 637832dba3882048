"""Any rule from plain Python: trainer.py LIBRARY RULE N STEPS minimizes the sum of (w[i] - i)^2 and prints w.

LIBRARY is libinstep.so or the extension of the Python package, `instep._core.__file__`: both have the C API.
"""

from __future__ import annotations

import ctypes
import sys

ABI_VERSION = 1  # the structs below are those of this version
FLOAT64 = 1


class Optimizer(ctypes.Structure):
    """The struct instep_optimizer."""

    _fields_ = [
        ("abi_version", ctypes.c_uint32),
        ("rule", ctypes.c_uint32),
        ("step_count", ctypes.c_int64),
        ("option", ctypes.c_double * 32),
        ("grad_norm", ctypes.c_double),
        ("skipped_count", ctypes.c_int64),
        ("finite_count", ctypes.c_int64),
    ]


class Array(ctypes.Structure):
    """The struct instep_array."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("dtype", ctypes.c_uint32),
        ("group", ctypes.c_uint32),
        ("param", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
        ("state", ctypes.c_void_p * 4),
        ("step_count", ctypes.c_int64),
        ("first_block", ctypes.c_uint64),
        ("formats", ctypes.c_uint8 * 8),
        ("stream", ctypes.c_uint64),
        ("rows", ctypes.c_void_p),
        ("row_count", ctypes.c_size_t),
        ("row_size", ctypes.c_size_t),
        ("row_steps", ctypes.c_void_p),
        ("low", ctypes.c_void_p),
        ("copy", ctypes.c_void_p),
        ("norms", ctypes.c_void_p),
    ]


def load(path: str) -> ctypes.CDLL:
    """The library, with the types of the functions that are used here."""
    library = ctypes.CDLL(path)
    library.instep_message.restype = ctypes.c_char_p
    library.instep_init.argtypes = [ctypes.POINTER(Optimizer), ctypes.c_char_p, ctypes.c_int]
    library.instep_set.argtypes = [ctypes.POINTER(Optimizer), ctypes.c_char_p, ctypes.c_double]
    library.instep_state_count.argtypes = [ctypes.POINTER(Optimizer)]
    library.instep_state_count.restype = ctypes.c_size_t
    library.instep_state_start.argtypes = [ctypes.POINTER(Optimizer), ctypes.c_size_t]
    library.instep_state_start.restype = ctypes.c_double
    library.instep_step.argtypes = [ctypes.POINTER(Optimizer), ctypes.POINTER(Array), ctypes.c_size_t]
    return library


def minimize(library: ctypes.CDLL, rule: str, n: int, steps: int) -> list[float]:
    """The w after so many steps from 0."""

    def must(status: int) -> None:
        if status:
            raise ValueError(library.instep_message(status).decode())

    optimizer = Optimizer()
    must(library.instep_init(optimizer, rule.encode(), ABI_VERSION))
    must(library.instep_set(optimizer, b"lr", 0.25))
    buffer = ctypes.c_double * n
    w, g = buffer(), buffer()
    states = [
        buffer(*[library.instep_state_start(optimizer, s)] * n) for s in range(library.instep_state_count(optimizer))
    ]
    array = Array(size=n, dtype=FLOAT64, param=ctypes.addressof(w), grad=ctypes.addressof(g))
    array.state[: len(states)] = [ctypes.addressof(state) for state in states]
    for _ in range(steps):
        for i in range(n):
            g[i] = 2 * (w[i] - i)
        must(library.instep_step(optimizer, array, 1))
    return list(w)


if __name__ == "__main__":
    path, rule, n, steps = sys.argv[1:]
    print(*(x.hex() for x in minimize(load(path), rule, int(n), int(steps))))
