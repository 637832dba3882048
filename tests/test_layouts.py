"""A gradient of any layout is copied into that of its parameter, element by element."""

import numpy as np
import pytest

import instep

LENGTHS = [1, 2, 3, 4, 5, 7, 16, 17, 64, 65, 255, 256, 257, 300, 1025]
THREADED = 150_000  # elements, which several threads copy


def any_layout(rng, dtype, most):
    """Elements that differ, in an array of any strides, 0 and negative ones too, at any address."""
    shape = [int(rng.choice(LENGTHS)) for _ in range(rng.integers(0, 6))]
    while np.prod(shape) > most:
        shape[rng.integers(len(shape))] = int(rng.choice(LENGTHS[:4]))
    shape = tuple(shape)
    held = tuple(1 if rng.random() < 0.1 else length for length in shape)  # before it is broadcast
    order = rng.permutation(len(shape))
    steps = rng.choice([1, 1, 1, 2, 3, -1, -2], len(shape))
    room = [held[k] * abs(steps[k]) + rng.integers(3) for k in order]
    memory = np.arange(1, 2 + int(np.prod(room)) * np.dtype(dtype).itemsize, dtype=dtype).view(np.uint8)
    offset = int(rng.integers(np.dtype(dtype).itemsize))
    values = memory[offset : offset + int(np.prod(room)) * np.dtype(dtype).itemsize].view(dtype).reshape(room)
    if offset:
        values[...] = np.arange(1, 1 + values.size, dtype=dtype).reshape(room)
    values = values.transpose(np.argsort(order))
    values = values[tuple(slice(None, None, step) for step in steps)]
    return np.broadcast_to(values[tuple(slice(length) for length in held)], shape)


def moved_by(grad, order):
    """The parameter after a step of gradient descent from 0: what was read, negated."""
    param = np.zeros(grad.shape, grad.dtype, order)
    instep.SGD([param], lr=1.0).step([grad])
    return param


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("most", [2_000, THREADED])
def test_every_layout_is_read_as_it_is(dtype, most, threads, soak):
    instep.set_num_threads(threads)
    rng = np.random.default_rng(0)
    copied = 0
    for _ in range((10_000 if soak else 300) if most < THREADED else (500 if soak else 30)):
        grad = any_layout(rng, dtype, most)
        before = grad.tobytes()
        for order in "CF":
            param = moved_by(grad, order)
            assert (-param).tobytes() == before, (grad.shape, grad.strides, order)
            copied += not (grad.flags.c_contiguous if order == "C" else grad.flags.f_contiguous)
        assert grad.tobytes() == before
    assert copied > 30


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 255, 256, 257, 600])
@pytest.mark.parametrize("columns", [1, 3, 4, 5, 15, 16, 17, 31, 33])
def test_every_edge_of_a_tile(dtype, rows, columns):
    grad = np.arange(1, 1 + rows * columns, dtype=dtype).reshape(columns, rows).T
    assert ((-moved_by(grad, "C")) == grad).all()
    wide = np.zeros((columns, 2 * rows), dtype)
    wide[:, ::2] = grad.T
    assert ((-moved_by(wide[:, ::2].T, "C")) == grad).all()
    assert ((-moved_by(wide[:, ::2], "C")) == grad.T).all()


def test_the_most_dimensions():
    shape = (2,) * 12 + (1,) * 52
    grad = np.arange(2**12, dtype=np.float32).reshape(shape).transpose(range(63, -1, -1))
    assert ((-moved_by(grad, "C")) == grad).all()
    assert ((-moved_by(grad[..., ::-1], "F")) == grad[..., ::-1]).all()
