"""Floats in 16 bits and in 8, in NumPy: how they are read, and how they are rounded when they are written.

This is the twin of ``csrc/storage.h``, bit for bit.  Reading is exact.  Writing rounds stochastically: up or down, with
a probability by how near either is, so that a value is right on the average.  Rounded to the nearest, an average that
moves by less than half a bit a step would stand still for ever; a copy of a parameter, which no step goes on from, is
rounded to the nearest, as NumPy does it.  What is written is the result of arithmetic, whose NaNs are quiet.

The random numbers of an array depend on the option ``seed``, on the array's number among the parameters (its stream),
on its step and on the element, and on nothing else.  The numbers count from 0 in the order of the keys, integers before
text, so that the order of the items of a dict does not matter.  Where there are other keys, such as None, which no
checkpoint takes, they count in the order of the params.

======================  ===============================================================================================
bfloat16                the upper 16 bits of a float32
float16                 IEEE's half precision; from 2**16 on it is infinite
split                   a float32 in two halves of 16 bits: the upper one, rounded to the nearest, is a bfloat16 that a
                        model can use; the lower one is what that is off by.  Together they are exactly the float32
byte, signed byte       three digits and an exponent relative to the largest of a block of 256, whose own exponent
                        stands behind all elements: ``size + ceil(size / 256)`` bytes.  Without a sign (an average of
                        squares) they reach from the largest down to 2**-31 of it, with a sign to 2**-15
======================  ===============================================================================================
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._core import Rows, run_in_step_arithmetic
from .arithmetic import Array

__all__ = [
    "BYTE",
    "SIGNED_BYTE",
    "ByteFormat",
    "from_bfloat16",
    "from_bytes",
    "from_half",
    "from_split",
    "hashed",
    "random_bits",
    "summed",
    "to_bfloat16",
    "to_bytes",
    "to_half",
    "to_split",
]

BLOCK = 256  # elements with a hash, and in bytes an exponent, of their own

_INFINITE = 0x7F800000
_LARGEST = 0x7F7FFFFF
_LARGEST_BFLOAT16 = 0x7F7F
_LARGEST_HALF = 0x477FE000  # 65504
_MAGNITUDE = 0x7FFFFFFF
_QUIET = 0x00400000
_HALF_BIAS = 112 << 23
_SMALLEST_NORMAL_HALF = 0x38800000  # 2**-14
_DIGIT = 1 << 20  # of a byte, among the bits of a float32
_BLOCKS_TOGETHER = 4096  # that are looked at together


def hashed(x: int) -> int:
    """The number after `x` in SplitMix64 (Steele, Lea and Flood, 2014).

    Parameters
    ----------
    x : int
        Of 64 bits.

    Returns
    -------
    int
        Of 64 bits.
    """
    mask = 2**64 - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & mask
    return x ^ x >> 31


def random_bits(seed: int, stream: int, step_count: int, place: int, size: int) -> Array:
    """16 random bits for each element of an array.

    Of each block the halves of a hash are a and b, and element i has the upper half of ``a + b i`` modulo 2**32.

    Parameters
    ----------
    seed : int
        The option.
    stream : int
        The number of the array among the parameters, in the order of their keys.
    step_count : int
        Which step this is, from 1.
    place : int
        0 for the parameter, 1 for the first of the states.
    size : int
        How many elements the array has.

    Returns
    -------
    numpy.ndarray
        int32, from 0 to 65535.
    """
    step = hashed(hashed(hashed(seed) ^ stream) ^ step_count)
    hashes = np.array([hashed(step ^ (block * 8 + place)) for block in range(-(-size // BLOCK))], np.uint64)
    a: Array = (hashes & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    b: Array = (hashes >> np.uint64(32)).astype(np.uint32)
    bits: Array = (a[:, None] + b[:, None] * np.arange(BLOCK, dtype=np.uint32)) >> np.uint32(16)
    found: Array = bits.astype(np.int32).ravel()[:size]
    return found


def from_bfloat16(stored: Array) -> Array:
    """The numbers of a bfloat16, exactly.

    Parameters
    ----------
    stored : numpy.ndarray
        uint16, the bits of each.

    Returns
    -------
    numpy.ndarray
        float32.
    """
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat16(x: Array, random: Array) -> Array:
    """Numbers as bfloat16, stochastically rounded; what is finite stays finite.

    Parameters
    ----------
    x : numpy.ndarray
        float32.
    random : numpy.ndarray
        From `random_bits`, of as many elements.

    Returns
    -------
    numpy.ndarray
        uint16, the bits of each.
    """
    bits = x.view(np.uint32)
    is_rounded = bits & np.uint32(_MAGNITUDE) < np.uint32(_LARGEST_BFLOAT16 << 16)
    found: Array = (bits + np.where(is_rounded, random, 0).astype(np.uint32)) >> np.uint32(16)
    return found.astype(np.uint16)


def from_split(high: Array, low: Array) -> Array:
    """The numbers of which these are the halves, exactly.

    Parameters
    ----------
    high, low : numpy.ndarray
        uint16: the bits of a bfloat16, and what it is off by.

    Returns
    -------
    numpy.ndarray
        float32.
    """
    off = low.view(np.int16).astype(np.int32).view(np.uint32)
    return ((high.astype(np.uint32) << np.uint32(16)) + off).view(np.float32)


def to_split(x: Array) -> tuple[Array, Array]:
    """The halves of numbers, the upper one rounded to the nearest.

    Parameters
    ----------
    x : numpy.ndarray
        float32.

    Returns
    -------
    tuple of numpy.ndarray
        The upper halves, which are bfloat16, and the lower ones, as uint16.
    """
    bits = x.view(np.uint32)
    is_nan = bits & np.uint32(_MAGNITUDE) > np.uint32(_INFINITE)
    bits = np.where(is_nan, bits & np.uint32(0xFFFF0000), bits)  # for it might round up past the sign
    with np.errstate(over="ignore"):
        return ((bits + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16), bits.astype(np.uint16)


def from_half(stored: Array) -> Array:
    """The numbers of a float16, exactly.

    Parameters
    ----------
    stored : numpy.ndarray
        uint16, the bits of each.

    Returns
    -------
    numpy.ndarray
        float32.
    """
    bits = stored.astype(np.int32)
    size, sign = (bits & 0x7FFF) << 13, (bits & 0x8000).view(np.uint32) << np.uint32(16)
    normal = size + np.where(size >= 0x7C00 << 13, 2 * _HALF_BIAS, _HALF_BIAS).astype(np.int32)
    least = np.array(_SMALLEST_NORMAL_HALF, np.int32).view(np.float32)
    small = ((size & 0x7FFFFF) + _SMALLEST_NORMAL_HALF).astype(np.int32).view(np.float32) - least
    return (np.where(size < 0x400 << 13, small.view(np.int32), normal).view(np.uint32) | sign).view(np.float32)


def to_half(x: Array, random: Array) -> Array:
    """Numbers as float16, stochastically rounded; what is below 2**16 stays finite.

    Parameters
    ----------
    x : numpy.ndarray
        float32.
    random : numpy.ndarray
        From `random_bits`, of as many elements.

    Returns
    -------
    numpy.ndarray
        uint16, the bits of each.
    """
    bits = x.view(np.int32)
    size = bits & _MAGNITUDE
    digits = np.where(size < _LARGEST_HALF, random >> 3, 0).astype(np.int32)
    normal = (np.minimum(size + digits, 0x47800000) - _HALF_BIAS) >> 13
    magnitude = np.minimum(size, _SMALLEST_NORMAL_HALF).astype(np.int32).view(np.float32)
    small = ((magnitude * np.float32(2.0**40)).astype(np.int32) + random) >> 16
    rounded = np.where(size < _SMALLEST_NORMAL_HALF, small, normal) | np.where(size > _INFINITE, 0x0200, 0)
    sign = (bits.view(np.uint32) >> np.uint32(16) & np.uint32(0x8000)).astype(np.int32)
    found: Array = (rounded | sign).astype(np.uint16)
    return found


class ByteFormat(NamedTuple):
    """One of the two ways to keep a number in a byte.

    Attributes
    ----------
    reach : int
        How far below the largest of a block the codes reach, in powers of 2.
    last : int
        The code of the largest finite number.
    is_signed : bool
        Whether a bit is the sign.
    """

    reach: int
    last: int
    is_signed: bool

    def exponent(self, x: Array) -> int:
        """The smallest one whose codes reach up to the finite numbers of a block, `x`."""
        size = x.view(np.int32) & _MAGNITUDE
        largest = int(np.where(size < _INFINITE, size, 0).max(initial=0))
        return max(min((largest + 4 * _DIGIT - 1) >> 23, 255), self.reach + 1)

    def base(self, exponent: int) -> int:
        """The bits of code 1, where this is the exponent."""
        return (exponent - self.reach) << 23


BYTE = ByteFormat(31, 253, False)
SIGNED_BYTE = ByteFormat(15, 125, True)


def from_bytes(form: ByteFormat, stored: Array, size: int) -> Array:
    """The numbers that are kept in bytes, exactly.

    Parameters
    ----------
    form : ByteFormat
        `BYTE` or `SIGNED_BYTE`.
    stored : numpy.ndarray
        uint8: the codes, and behind them the exponents of the blocks.
    size : int
        How many numbers they are.

    Returns
    -------
    numpy.ndarray
        float32.
    """
    exponents = stored[size:].astype(np.int32)
    base = np.repeat((exponents - form.reach) << 23, BLOCK)[:size]
    bits = stored[:size].astype(np.int32)
    code = bits & 0x7F if form.is_signed else bits
    sign = (bits & 0x80).view(np.uint32) << np.uint32(24) if form.is_signed else np.zeros(size, np.uint32)
    with np.errstate(over="ignore"):
        found = np.where(code == 0, 0, base + (code - 1) * _DIGIT)
    found = np.where(code > form.last, _INFINITE, found)
    found |= np.where(code > form.last + 1, _QUIET, 0)
    return (found.astype(np.int32).view(np.uint32) | sign).view(np.float32)


def has_exponents(stored: Array) -> bool:
    """Whether every exponent is one that `to_bytes` gives, or of a block of zeros, such as a new file holds.

    Part by part, for the array may be larger than memory.
    """
    form = BYTE if stored.dtype == np.uint8 else SIGNED_BYTE
    stored = stored.reshape(-1).view(np.uint8)
    blocks = -(-stored.size // (BLOCK + 1))
    size = stored.size - blocks
    for begin in range(0, blocks, _BLOCKS_TOGETHER):
        end = min(begin + _BLOCKS_TOGETHER, blocks)
        exponents = stored[size + begin : size + end]
        codes = stored[begin * BLOCK : min(end * BLOCK, size)]
        largest = np.maximum.reduceat(codes, np.arange(0, codes.size, BLOCK)) if codes.size else codes
        if len(largest) != len(exponents) or ((exponents <= form.reach) & (exponents | largest > 0)).any():
            return False
    return True


def to_bytes(form: ByteFormat, x: Array, random: Array) -> Array:
    """Numbers as bytes, stochastically rounded.

    Parameters
    ----------
    form : ByteFormat
        `BYTE` or `SIGNED_BYTE`.
    x : numpy.ndarray
        float32.
    random : numpy.ndarray
        From `random_bits`, of as many elements.

    Returns
    -------
    numpy.ndarray
        uint8: the codes, and behind them the exponents of the blocks.
    """
    codes, exponents = [], []
    for begin in range(0, x.size, BLOCK):
        block, bits_of_block = x[begin : begin + BLOCK], random[begin : begin + BLOCK]
        exponents.append(form.exponent(block))
        codes.append(_codes(form, block, form.base(exponents[-1]), bits_of_block))
    return np.concatenate([*codes, np.array(exponents, np.uint8)]) if codes else np.zeros(0, np.uint8)


def _codes(form: ByteFormat, x: Array, base: int, random: Array) -> Array:
    bits = x.view(np.int32)
    size = bits & _MAGNITUDE
    code = ((np.minimum(np.minimum(size, _LARGEST) + random * 16, _LARGEST) - base) >> 20) + 1
    relative = np.array((254 << 23) - base, np.int32).view(np.float32)
    below = np.minimum(size, base).astype(np.int32).view(np.float32) * relative * np.float32(65536.0)
    small: Any = (below.astype(np.int32) + random) >> 16 if form.is_signed else size > 0
    code = np.where(size < base, small, code)
    code = np.where(size >= _INFINITE, form.last + 1, code)
    code = np.where(size > _INFINITE, form.last + 2, code)
    sign = (bits.view(np.uint32) >> np.uint32(24) & np.uint32(0x80)).astype(np.int32) if form.is_signed else 0
    return (code | sign).astype(np.uint8)


def as_numbers(stored: Array) -> Array:
    """An array of 16-bit floats as float32, any other as it is."""
    if stored.dtype == np.float16:
        return np.asarray(from_half(stored.view(np.uint16)))
    if stored.dtype.name == "bfloat16":
        return np.asarray(from_bfloat16(stored.view(np.uint16)))
    return stored


def rounds_to(x: Array, stored: Array) -> Array:
    """Whether a number of float32 is what a 16-bit one stands for, or the one is the other rounded either way.

    What is not finite may stand for anything: a number that is too large, say.
    """
    write = to_half if stored.dtype == np.float16 else to_bfloat16
    bits = stored.view(np.uint16)
    down, up = (write(x, np.full(x.size, random, np.int32)) for random in (0, 65535))
    found: Array = (bits == down) | (bits == up) | (as_numbers(stored) == x) | ~np.isfinite(as_numbers(stored))
    return found


def in_full(param: Array, low: Array) -> Array:
    """The numbers of a parameter in two halves, in its memory order."""
    found = np.empty_like(param, np.float32, subok=False)
    halves = (param.reshape(-1, order="A").view(np.uint16), low.reshape(-1, order="A"))
    found.reshape(-1, order="A")[...] = from_split(*halves)
    return found


def decoded(stored: Array, param: Array) -> Array:
    """The numbers of a state of this parameter, in float32 where they are stored in fewer bits; exact."""
    if stored.dtype in (np.uint8, np.int8):
        form = BYTE if stored.dtype == np.uint8 else SIGNED_BYTE
        found = np.empty_like(param, np.float32, subok=False)
        found.reshape(-1, order="A")[...] = from_bytes(form, stored.view(np.uint8), param.size)
        return found
    return numbers_like(stored, np.float32, stored.shape) if stored.dtype.itemsize == 2 else stored


def encoded(numbers: Array, stored: Array) -> Array:
    """The numbers of a state as another one is stored, rounded to the nearest, which is right for what is done once."""
    half = np.full(numbers.size, 1 << 15, np.int32)
    if stored.dtype in (np.uint8, np.int8):
        form = BYTE if stored.dtype == np.uint8 else SIGNED_BYTE
        return to_bytes(form, numbers.reshape(-1, order="A"), half).view(stored.dtype)
    if stored.dtype.itemsize != 2:
        return numbers
    found = np.empty_like(numbers, stored.dtype, subok=False)
    found.reshape(-1, order="A").view(np.uint16)[...] = to_bfloat16(numbers.reshape(-1, order="A"), half)
    return found


def zeros_like(param: Array, dtype: Any, shape: tuple[int, ...]) -> Array:
    """Zeros in the memory order of `param`."""
    return np.zeros(shape, dtype) if shape != param.shape else np.zeros_like(param, dtype, subok=False)


def numbers_like(param: Array, dtype: Any, shape: tuple[int, ...]) -> Array:
    """The numbers of `param` in another dtype, in its memory order; nothing where `shape` is."""
    if shape != param.shape:
        return np.empty(shape, dtype)
    found = np.empty_like(param, dtype, subok=False)
    found.reshape(-1, order="A")[...] = as_numbers(param.reshape(-1, order="A"))
    return found


def bytes_of(value: float, size: int, dtype: Any) -> Array:
    """As many numbers of one value as bytes, whose three digits it is cut to."""
    form = BYTE if dtype == np.uint8 else SIGNED_BYTE
    numbers = np.full(size, value, np.float32)
    return to_bytes(form, numbers, np.zeros(size, np.int32)).view(dtype)


def summed(indices: Array, values: Array, dtype: Any) -> tuple[Array, Array]:
    """Rows in ascending order, each once: those that stand several times are added up, first come, first added.

    Parameters
    ----------
    indices : numpy.ndarray
        Which rows, as in `instep.Rows`.
    values : numpy.ndarray
        Their gradients, a row for each index.
    dtype : numpy.dtype
        That of the arithmetic: float32 or float64.

    Returns
    -------
    tuple of numpy.ndarray
        The indices in order, as int64, and the sums.

    Raises
    ------
    ValueError
        There are more rows of values than indices, or fewer.
    """
    if len(indices) != len(values):
        raise ValueError(f"values must have a row for each of the {len(indices)} indices, not {len(values)}")
    found: tuple[Array, Array] = run_in_step_arithmetic(_summed, (indices, values, dtype), {})
    return found


def _summed(indices: Array, values: Array, dtype: Any) -> tuple[Array, Array]:
    rows: dict[int, Array] = {}
    for index, value in zip(indices.tolist(), as_numbers(values).astype(dtype), strict=True):
        rows[index] = rows[index] + value if index in rows else value
    found = np.empty((len(rows), *values.shape[1:]), dtype)
    for k, index in enumerate(sorted(rows)):
        found[k] = rows[index]
    return np.array(sorted(rows), np.int64), found


def to_add(totals: list[Any], grads: list[tuple[int, Any, Any]]) -> tuple[list[Any], list[tuple[Array, Array]]]:
    """The sums once gradients are added, and what is still to be added to which of them in place.

    The sums so far are None at first; of a gradient come its number, itself and the dtype of the arithmetic. Nothing is
    written yet, for this may be interrupted.
    """
    sums, pairs = list(totals), []
    for k, grad, dtype in grads:
        if isinstance(grad, Rows):
            sums[k] = _joined(totals[k], grad, dtype)
        elif totals[k] is None:
            sums[k] = as_numbers(grad).astype(dtype, order="K", copy=True)
        else:
            pairs.append((totals[k], np.asarray(as_numbers(grad))))
    return sums, pairs


def _joined(total: Rows | None, rows: Rows, dtype: Any) -> Rows:
    values = as_numbers(rows.values).astype(dtype)
    if total is None:
        return Rows(rows.indices.copy(), values)
    return Rows(np.concatenate([total.indices, rows.indices]), np.concatenate([total.values, values]))
