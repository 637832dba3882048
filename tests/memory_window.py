"""An array far larger than the memory behind it: one file of memory, mapped again and again side by side."""

import ctypes
import mmap
import os
from contextlib import contextmanager

import numpy as np

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
MAP_FIXED, MAP_NORESERVE = 0x10, 0x4000
WINDOW = 4 << 20


def map_at(address, length, protection, flags, file):
    got = LIBC.mmap(address, length, protection, flags, file, 0)
    if got in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got


@contextmanager
def window(size, dtype, values):
    """An array of `size` elements in which those a window apart are the same memory, and the window, holding values."""
    nbytes = size * np.dtype(dtype).itemsize
    whole = -(-nbytes // WINDOW) * WINDOW
    file = os.memfd_create("window")
    os.ftruncate(file, WINDOW)
    start = map_at(None, whole, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, -1)
    try:
        for offset in range(0, whole, WINDOW):
            writable = mmap.PROT_READ | mmap.PROT_WRITE
            map_at(start + offset, WINDOW, writable, mmap.MAP_SHARED | MAP_FIXED, file)
        os.close(file)
        array = np.frombuffer((ctypes.c_char * nbytes).from_address(start), dtype)
        memory = array[: WINDOW // np.dtype(dtype).itemsize]
        memory[...] = np.resize(values, memory.size)
        yield array, memory
    finally:
        LIBC.munmap(start, whole)
