"""Rules as functions of one array whose state the caller owns."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._core import Function

Array = np.ndarray[Any, Any]

_rmsprop = Function(
    "rmsprop",
    states=("square_avg", "variance", "grad_avg", "momentum_buffer"),
    options=(
        "lr",
        "rho",
        "eps",
        "eps_inside",
        "momentum",
        "nesterov",
        "lr_in_momentum",
        "centered",
        "initial_square_avg",
        "bias_correction",
        "weight_decay",
        "decoupled_weight_decay",
        "maximize",
    ),
)


def rmsprop(
    param: Array,
    grad: Array,
    square_avg: Array | None = None,
    *,
    variance: Array | None = None,
    grad_avg: Array | None = None,
    momentum_buffer: Array | None = None,
    step_count: int = 1,
    lr: float = 1e-3,
    rho: float = 0.9,
    eps: float = 1e-8,
    eps_inside: bool = False,
    momentum: float = 0.0,
    nesterov: bool = False,
    lr_in_momentum: bool = False,
    centered: bool = False,
    initial_square_avg: float = 0.0,
    bias_correction: bool = False,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one RMSprop step on one array, in place.

    ::

        square_avg <- rho square_avg + (1 - rho) grad^2
        param      <- param - lr grad / (sqrt(square_avg) + eps)

    `instep.RMSprop` documents every option and its formula; `instep.reference.rmsprop` spells them out in NumPy and
    leaves the same bits.

    Parameters
    ----------
    param : numpy.ndarray
        float32 or float64, of any shape, C- or Fortran-contiguous.  Updated in place.
    grad : numpy.ndarray
        Of the shape and dtype of `param`.  Not modified.  Copied first when it is not laid out as `param`.
    square_avg : numpy.ndarray
        The running average of the squared gradient, of the shape, dtype and layout of `param`.  Updated in place.
        Start it at 0, or wherever the dialect does.  Needed unless `centered`.
    variance, grad_avg : numpy.ndarray
        The running variance and average of the gradient, likewise; needed when `centered`, in the place of
        `square_avg`.
    momentum_buffer : numpy.ndarray
        The momentum, likewise, started at 0; needed when `momentum` is not 0.
    step_count : int
        Which step this is, from 1.  Only `bias_correction` depends on it.
    lr, rho, eps, eps_inside, momentum, nesterov, lr_in_momentum, centered, initial_square_avg, bias_correction, \
weight_decay, decoupled_weight_decay, maximize
        As for `instep.RMSprop`.  `initial_square_avg` changes nothing here, where the caller makes the state; it may be
        given so that one set of options serves both.

    Raises
    ------
    TypeError
        An argument is not an array, or of another dtype, or a state that these options need is missing, or one that
        they do not need is given.
    ValueError
        An array is read-only, not contiguous, of another shape, or shares memory with another one; an option is out
        of its range or contradicts another.

    Whatever is raised, nothing has been written.

    References
    ----------
    Geoffrey Hinton, Neural Networks for Machine Learning, lecture 6e, 2012.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, square_avg = np.zeros(2), np.zeros(2)
    >>> instep.rmsprop(param, np.array([0.5, 0.0]), square_avg, lr=0.1)
    >>> param.round(4)
    array([-0.3162,  0.    ])
    """
    _rmsprop.step(
        param,
        grad,
        (square_avg, variance, grad_avg, momentum_buffer),
        step_count,
        (
            lr,
            rho,
            eps,
            eps_inside,
            momentum,
            nesterov,
            lr_in_momentum,
            centered,
            initial_square_avg,
            bias_correction,
            weight_decay,
            decoupled_weight_decay,
            maximize,
        ),
    )


def variance_of(square_avg: Array, grad_avg: Array) -> Array:
    """The variance that centered RMSprop carries, from the averages that other libraries carry.

    ``square_avg - grad_avg**2``, and 0 where rounding makes that negative.  A new array.
    """
    variance: Array = np.maximum(square_avg - grad_avg * grad_avg, 0)
    return variance


def square_avg_of(variance: Array, grad_avg: Array) -> Array:
    """The average of the squared gradient that other libraries carry, from the state of centered RMSprop.

    ``variance + grad_avg**2``.  A new array.
    """
    square_avg: Array = variance + grad_avg * grad_avg
    return square_avg
