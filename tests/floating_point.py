"""The floating-point mode of the calling thread, set from Python."""

import ctypes
import ctypes.util
import platform
from contextlib import contextmanager


class Environment(ctypes.Structure):
    """fenv_t of glibc: on x86-64 the x87's state and MXCSR, on AArch64 FPCR and FPSR."""

    if platform.machine() == "aarch64":
        _fields_ = [("control", ctypes.c_uint32), ("status", ctypes.c_uint32)]
    else:
        _fields_ = [("x87", ctypes.c_uint8 * 28), ("control", ctypes.c_uint32)]


LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
MODES = (
    {
        "to nearest": 0,
        "flush to zero": 1 << 24,
        "upward": 1 << 22,
        "downward": 2 << 22,
        "toward zero": 3 << 22,
        "upward and flush to zero": 1 << 22 | 1 << 24,
    }
    if platform.machine() == "aarch64"
    else {
        "to nearest": 0x1F80,
        "flush to zero": 0x1F80 | 0x8000,
        "subnormals are zero": 0x1F80 | 0x0040,
        "both": 0x1F80 | 0x8040,
        "downward": 0x1F80 | 0x2000,
        "upward": 0x1F80 | 0x4000,
        "toward zero": 0x1F80 | 0x6000,
        "upward and both": 0x1F80 | 0x4000 | 0x8040,
        "traps": 0x1F80 & ~0x0680,
    }
)


@contextmanager
def floating_point_mode(control):
    """The mode while inside; `left` of what is yielded is the mode found at the end."""
    callers, inside = Environment(), Environment()
    LIBM.fegetenv(ctypes.byref(callers))
    LIBM.fegetenv(ctypes.byref(inside))
    inside.control = control
    LIBM.fesetenv(ctypes.byref(inside))
    try:
        yield inside
    finally:
        LIBM.fegetenv(ctypes.byref(inside))
        LIBM.fesetenv(ctypes.byref(callers))
