"""A gradient of any layout is copied into that of its parameter, element by element."""

import ctypes

import numpy as np
import pytest

import instep
from compiled import shared_library

LENGTHS = [1, 2, 3, 4, 5, 7, 16, 17, 64, 65, 255, 256, 257, 300, 1025]
FEW, MANY = 2_000, 300_000  # elements: so many are copied by several threads


def any_layout(rng, dtype, most):
    """An array of any strides, 0 and negative ones too, at any address, of bits that differ from element to element."""
    dtype = np.dtype(dtype)
    shape = [int(rng.choice(LENGTHS)) for _ in range(rng.integers(0, 6))]
    while np.prod(shape) > most:
        shape[rng.integers(len(shape))] = int(rng.choice(LENGTHS[:4]))
    held = [1 if rng.random() < 0.1 else length for length in shape]  # before they are broadcast
    order = rng.permutation(len(shape))
    steps = rng.choice([1, 1, 1, 2, 3, -1, -2], len(shape))
    room = [held[k] * abs(steps[k]) + rng.integers(3) for k in order]
    offset, size = int(rng.integers(dtype.itemsize)), int(np.prod(room))
    values = np.zeros(offset + size * dtype.itemsize, np.uint8)[offset:].view(dtype).reshape(room)
    values[...] = np.arange(1, 1 + size).reshape(room)
    values = values.transpose(np.argsort(order))[tuple(slice(None, None, step) for step in steps)]
    return np.broadcast_to(values[tuple(slice(length) for length in held)], shape)


def read_by_a_step(grad, order="C"):
    """What a step of gradient descent moves a parameter of 0 by."""
    param = np.zeros(grad.shape, grad.dtype, order)
    instep.SGD([param], lr=1.0).step([grad])
    return -param


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("most", [FEW, MANY])
def test_a_step_reads_every_layout(dtype, most, threads, soak):
    instep.set_num_threads(threads)
    rng = np.random.default_rng(0)
    for _ in range((10_000 if soak else 300) if most == FEW else (500 if soak else 20)):
        grad = any_layout(rng, dtype, most)
        for order in "CF":
            assert read_by_a_step(grad, order).tobytes() == grad.tobytes(), (grad.shape, grad.strides, order)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 255, 256, 257, 600])
@pytest.mark.parametrize("columns", [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33])
def test_every_edge_of_a_block(dtype, rows, columns):
    wide = np.arange(1, 1 + 2 * rows * columns, dtype=dtype).reshape(columns, 2 * rows)
    for grad in (wide[:, :rows].T, wide[:, ::2].T, wide[:, ::-2].T, wide[::-1, ::2], wide.reshape(-1)[::2]):
        assert read_by_a_step(grad).tobytes() == grad.tobytes()


def test_the_most_dimensions():
    grad = np.arange(1, 1 + 2**12, dtype=np.float32).reshape((2,) * 12 + (1,) * 52)
    for turned in (grad.T, grad[..., ::-1, :].T, grad.swapaxes(0, 11)):
        assert read_by_a_step(turned).tobytes() == turned.tobytes()


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The copy alone, which knows elements by their width."""
    return shared_library(tmp_path_factory.mktemp("copy"), "copy.c", "pool.c", "pace.c", "threads.c", "cpu.c")


@pytest.mark.compiler
@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("threads", [1, 3])
def test_bits_are_copied_and_nothing_beside_them(library, width, threads, soak):
    rng = np.random.default_rng(0)
    library.instep_set_threads(threads)
    for k in range(3000 if soak else 300):
        values = any_layout(rng, f"uint{8 * width}", MANY if k % 20 == 0 else FEW)
        whole = values.ndim * ctypes.c_ssize_t
        memory = np.full(values.nbytes + 128, 0xA5, np.uint8)
        library.instep_copy(
            ctypes.c_void_p(memory[64 + k % 9 :].ctypes.data), ctypes.c_void_p(values.ctypes.data),
            ctypes.c_size_t(width), values.ndim, whole(*values.shape), whole(*values.strides),
        )  # fmt: skip
        before, after = 64 + k % 9, 64 - k % 9
        assert memory[before:-after].tobytes() == values.tobytes(), (values.shape, values.strides)
        assert (memory[:before] == 0xA5).all()
        assert (memory[-after:] == 0xA5).all()
