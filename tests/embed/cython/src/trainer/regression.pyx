# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Logistic regression: data, gradients and steps without the interpreter."""

cimport instep
from libc.math cimport exp
from libc.string cimport memset

import numpy as np


cdef void find_gradient(double[:, ::1] x, double[::1] y, double[::1] w, double[::1] g) noexcept nogil:
    cdef Py_ssize_t row, k
    cdef double score, error
    memset(&g[0], 0, g.shape[0] * sizeof(double))
    for row in range(x.shape[0]):
        score = 0
        for k in range(x.shape[1]):
            score += x[row, k] * w[k]
        error = (1 / (1 + exp(-score)) - y[row]) / x.shape[0]
        for k in range(x.shape[1]):
            g[k] += error * x[row, k]


def gradient(double[:, ::1] x, double[::1] y, double[::1] w):
    """The gradient of the loss at `w`."""
    g = np.zeros(x.shape[1])
    find_gradient(x, y, w, g)
    return g


def fit(str rule, double[:, ::1] x, double[::1] y, int steps, dict options):
    """The weights after so many steps from 0."""
    weights = np.zeros(x.shape[1])
    cdef double[::1] w = weights, g = np.zeros(x.shape[1]), state
    cdef instep.instep_optimizer optimizer
    cdef instep.instep_array array
    cdef int status, _step
    cdef size_t s

    status = instep.instep_init(&optimizer, rule.encode(), instep.INSTEP_ABI_VERSION)
    if status != instep.INSTEP_OK:
        raise ValueError(f"{rule}: {instep.instep_message(status).decode()}")
    for name, value in options.items():
        status = instep.instep_set(&optimizer, name.encode(), value)
        if status != instep.INSTEP_OK:
            raise ValueError(f"{name}={value} {instep.instep_message(status).decode()}")
    memset(&array, 0, sizeof(array))
    array.size = w.shape[0]
    array.dtype = instep.INSTEP_FLOAT64
    array.param = &w[0]
    array.grad = &g[0]
    states = []
    for s in range(instep.instep_state_count(&optimizer)):
        state = np.full(x.shape[1], instep.instep_state_start(&optimizer, s))
        array.state[s] = &state[0]
        states.append(state)  # to keep it alive
    with nogil:
        for _step in range(steps):
            find_gradient(x, y, w, g)
            status = instep.instep_step(&optimizer, &array, 1)
            if status != instep.INSTEP_OK:
                break
    if status != instep.INSTEP_OK:
        raise ValueError(instep.instep_message(status).decode())
    return weights
