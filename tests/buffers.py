"""Which buffers are taken as a parameter, a gradient and a state: one table, for the tests and for the documentation.

    python tests/buffers.py        prints it as Markdown

Every buffer holds two rows of three numbers, where it can, and stands next to C-contiguous float32 arrays of that
shape; as a parameter, next to arrays of its own layout and dtype.
"""

import array
import ctypes
from typing import NamedTuple

import ml_dtypes
import numpy as np

from peers import peer

IN_PLACE = "in place"  # written, or read, where it lies
COPIED = "copied"  # read through a copy in the layout of the parameter


class Refused(NamedTuple):
    error: type
    words: str

    def __str__(self):
        return self.error.__name__


NOT_AN_ARRAY = Refused(TypeError, "must be a numpy.ndarray")
WRONG_DTYPE = Refused(TypeError, "float32")
SWAPPED = Refused(TypeError, "byte order|dtype")
READ_ONLY = Refused(ValueError, "read-only")
SCATTERED = Refused(ValueError, "not contiguous")
OTHER_SHAPE = Refused(ValueError, r"shape .* expected \(2, 3\)")
OTHER_LAYOUT = Refused(ValueError, "layout")
TRUNCATED = Refused(ValueError, "truncated")
ABSENT = Refused(TypeError, "must be a numpy.ndarray|is needed")


# What an optimizer takes, and the function of one array refuses: see WRONG_DTYPE.
FOR_CLASSES = ("float16", "bfloat16")


class Buffer(NamedTuple):
    kind: str
    make: object  # a function of an empty directory
    param: object
    grad: object
    state: object


def numbers(dtype="float32", order="C"):
    return np.arange(1, 7).reshape(2, 3).astype(dtype, order=order)


def plain(dtype):
    return lambda directory: numbers(dtype)


def over(memory):
    """An array over a buffer that somebody else allocated."""
    return lambda directory: np.frombuffer(memory(numbers().tobytes()), np.float32).reshape(2, 3)


def misaligned(offset):
    def make(directory):
        values = np.frombuffer(bytearray(64), np.float32, 6, offset).reshape(2, 3)
        values[...] = numbers()
        return values

    return make


def read_only(directory):
    values = numbers()
    values.flags.writeable = False
    return values


def strided(directory):
    values = np.zeros((2, 6), np.float32)
    values[:, ::2] = numbers()
    return values[:, ::2]


def writable_broadcast(directory):
    return np.lib.stride_tricks.as_strided(np.ones(3, np.float32), (2, 3), (0, 4))


def field(directory):
    records = np.zeros((2, 3), [("before", "f4"), ("value", "f4")])
    records["value"] = numbers()
    return records["value"]


def subclass(kind):
    return lambda directory: numbers().view(kind)


class Subclass(np.ndarray):
    pass


def mapped(mode):
    def make(directory):
        (directory / "map").write_bytes(numbers().tobytes())
        return np.memmap(directory / "map", np.float32, mode, shape=(2, 3))

    return make


def part_of_a_map(directory):
    (directory / "map").write_bytes(b"\0" * 4096 + numbers().tobytes())
    return np.memmap(directory / "map", np.float32, "r+")[1024:].reshape(2, 3)


def array_over_a_map(directory):
    return np.asarray(mapped("r+")(directory))


def map_of_a_deleted_file(directory):
    values = mapped("r+")(directory)
    (directory / "map").unlink()
    return values


def truncated_map(mode):
    def make(directory):
        values = mapped(mode)(directory)
        (directory / "map").write_bytes(b"\0" * 20)
        return values

    return make


class Exporter:
    """What offers its memory by DLPack, and nothing else."""

    def __init__(self):
        self.values = numbers()

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def torch_tensor(directory):
    return peer("torch").ones(2, 3)


def jax_array(directory):
    return peer("jax.numpy").ones((2, 3))


def everywhere(kind, make, cell):
    return Buffer(kind, make, cell, cell, cell)


def as_gradient_only(kind, make, cell):
    return Buffer(kind, make, cell, COPIED, cell)


BUFFERS = [
    everywhere("float32", plain("float32"), IN_PLACE),
    Buffer("float64", plain("float64"), IN_PLACE, WRONG_DTYPE, WRONG_DTYPE),
    Buffer("Fortran order", lambda d: numbers(order="F"), IN_PLACE, COPIED, OTHER_LAYOUT),
    Buffer("transposed view", lambda d: numbers().reshape(3, 2).T, IN_PLACE, COPIED, OTHER_LAYOUT),
    Buffer("0-d", lambda d: np.array(1, np.float32), IN_PLACE, OTHER_SHAPE, OTHER_SHAPE),
    Buffer("empty", lambda d: np.ones((0, 3), np.float32), IN_PLACE, OTHER_SHAPE, OTHER_SHAPE),
    Buffer("one element", lambda d: np.ones((1, 1), np.float32), IN_PLACE, OTHER_SHAPE, OTHER_SHAPE),
    Buffer("rows and columns swapped", lambda d: np.ones((3, 2), np.float32), IN_PLACE, OTHER_SHAPE, OTHER_SHAPE),
    Buffer("flattened", lambda d: np.ones(6, np.float32), IN_PLACE, OTHER_SHAPE, OTHER_SHAPE),
    everywhere("rows of a larger array", lambda d: np.ones((9, 3), np.float32)[4:6], IN_PLACE),
    as_gradient_only("columns of a larger array", lambda d: np.ones((2, 9), np.float32)[:, :3], SCATTERED),
    as_gradient_only("every other element", strided, SCATTERED),
    as_gradient_only("negative strides", lambda d: numbers()[::-1], SCATTERED),
    as_gradient_only("broadcast", lambda d: np.broadcast_to(np.float32(1), (2, 3)), READ_ONLY),
    as_gradient_only("broadcast, made writable", writable_broadcast, SCATTERED),
    as_gradient_only("field of a structured array", field, SCATTERED),
    *[everywhere(f"misaligned by {offset}", misaligned(offset), IN_PLACE) for offset in range(1, 8)],
    Buffer("read-only", read_only, READ_ONLY, IN_PLACE, READ_ONLY),
    Buffer("over bytes", over(bytes), READ_ONLY, IN_PLACE, READ_ONLY),
    everywhere("over a bytearray", over(bytearray), IN_PLACE),
    everywhere("over a memoryview", over(lambda data: memoryview(bytearray(data))), IN_PLACE),
    everywhere("over an array.array", over(lambda data: array.array("f", data)), IN_PLACE),
    everywhere("over a ctypes array", over(lambda data: (ctypes.c_char * 24).from_buffer_copy(data)), IN_PLACE),
    everywhere("from DLPack", lambda d: np.from_dlpack(numbers()), IN_PLACE),
    everywhere("mapped, r+", mapped("r+"), IN_PLACE),
    everywhere("mapped, w+", lambda d: np.memmap(d / "map", np.float32, "w+", shape=(2, 3)), IN_PLACE),
    everywhere("mapped, c", mapped("c"), IN_PLACE),
    Buffer("mapped, r", mapped("r"), READ_ONLY, IN_PLACE, READ_ONLY),
    everywhere("part of a map", part_of_a_map, IN_PLACE),
    everywhere("array over a map", array_over_a_map, IN_PLACE),
    everywhere("map of a deleted file", map_of_a_deleted_file, IN_PLACE),
    everywhere("map of a truncated file, r+", truncated_map("r+"), TRUNCATED),
    everywhere("map of a truncated file, c", truncated_map("c"), TRUNCATED),
    Buffer("float16", plain("float16"), IN_PLACE, IN_PLACE, WRONG_DTYPE),
    Buffer("bfloat16", plain(ml_dtypes.bfloat16), IN_PLACE, IN_PLACE, WRONG_DTYPE),
    everywhere("byte order swapped", lambda d: numbers().astype(np.dtype("f4").newbyteorder()), SWAPPED),
    *[
        everywhere(dtype, plain(dtype), WRONG_DTYPE)
        for dtype in ["longdouble", "complex64", "int8", "int32", "int64", "uint8", "bool", "object", "str"]
    ],
    everywhere("datetime64", plain("datetime64[s]"), WRONG_DTYPE),
    everywhere("structured", lambda d: np.zeros((2, 3), [("value", "f4")]), WRONG_DTYPE),
    everywhere("masked array", subclass(np.ma.MaskedArray), NOT_AN_ARRAY),
    everywhere("recarray", subclass(np.recarray), NOT_AN_ARRAY),
    everywhere("subclass of ndarray", subclass(Subclass), NOT_AN_ARRAY),
    everywhere("NumPy scalar", lambda d: np.float32(1), NOT_AN_ARRAY),
    everywhere("float", lambda d: 1.0, NOT_AN_ARRAY),
    everywhere("complex", lambda d: 1j, NOT_AN_ARRAY),
    everywhere("string", lambda d: "grad", NOT_AN_ARRAY),
    everywhere("bytes", lambda d: numbers().tobytes(), NOT_AN_ARRAY),
    everywhere("bytearray", lambda d: bytearray(24), NOT_AN_ARRAY),
    everywhere("memoryview", lambda d: memoryview(numbers()), NOT_AN_ARRAY),
    everywhere("array.array", lambda d: array.array("f", [1] * 6), NOT_AN_ARRAY),
    everywhere("set", lambda d: {1.0}, NOT_AN_ARRAY),
    everywhere("generator", lambda d: (x for x in numbers()), NOT_AN_ARRAY),
    everywhere("array type", lambda d: np.ndarray, NOT_AN_ARRAY),
    everywhere("exporter of DLPack", lambda d: Exporter(), NOT_AN_ARRAY),
    everywhere("None", lambda d: None, ABSENT),
    everywhere("nested lists of numbers", lambda d: numbers().tolist(), NOT_AN_ARRAY),
    everywhere("torch.Tensor", torch_tensor, NOT_AN_ARRAY),
    everywhere("jax.Array", jax_array, NOT_AN_ARRAY),
]


def main():
    print("| buffer | param | grad | state |\n|---|---|---|---|")
    for buffer in BUFFERS:
        print(f"| {buffer.kind} | {buffer.param} | {buffer.grad} | {buffer.state} |")


if __name__ == "__main__":
    main()
