"""RMSprop."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._core import Options
from ..arithmetic import Array, default_arithmetic, prepared, whole_power
from ..functions import native
from ..storage import decoded, encoded
from .momentum import WithMomentum


class RMSprop(WithMomentum):
    """RMSprop over one array or many, in place.

    For every element, in this order:

    ===============================================================  =====================================
    {preparation}
    ``v = rho v + (1 - rho) g^2``                                    v is ``square_avg``
    ``d = g - m; v = rho (v + (1 - rho) d d); m = m + (1 - rho) d``  if `centered`; v is ``variance``,
                                                                     m is ``grad_avg``
    ``c = v / (1 - rho^t)``                                          if `bias_correction`, else ``c = v``
    ``u = g / (sqrt(c) + eps)``                                      ``g / sqrt(c + eps)`` if `eps_inside`
    ``p = p - lr u``                                                 if `momentum` is 0; ``lr g`` is divided
    ``b = momentum b + u; p = p - lr b``                             b is ``momentum_buffer``
    ``b = momentum b + lr u; p = p - b``                             if `lr_in_momentum`; ``lr g`` is divided
    ``b`` in the last step becomes ``u + momentum b``                if `nesterov` (``lr u + ...`` likewise)
    ===============================================================  =====================================

    {bits}

    Parameters
    ----------
    {params}
    lr : float
        The learning rate; 0 or greater.
    rho : float
        How much of the running average a step keeps; in [0, 1).  Others call it alpha, decay or gamma.
    eps : float
        Keeps the denominator from 0; greater than 0 in the dtype of every array.
    eps_inside : bool
        Add `eps` inside the square root (TensorFlow, Keras, optax) instead of outside (torch, Hinton).
    momentum : float
        The decay of the momentum; in [0, 1); 0 for none.
    nesterov : bool
        Nesterov's momentum as optax does it; needs `momentum`.
    lr_in_momentum : bool
        Multiply by `lr` what enters the momentum buffer (TensorFlow, Keras, optax) instead of what leaves it (torch).
        The two are the same for a constant `lr`, and without `momentum`, as in Keras by default.  Assigned between
        steps it converts the momentum by the present `lr`.
    centered : bool
        Divide by the standard deviation of the gradient, estimated as a running variance (Graves 2013).  Carrying the
        variance itself gives ``square_avg - grad_avg^2`` without its cancellation, so that finite gradients never
        produce a NaN, short of an update or a weight decay that overflows.  `instep.variance_of` and
        `instep.square_avg_of` convert the state, as does an assignment between steps.
    initial_square_avg : float
        What ``square_avg`` or ``variance`` starts at; 1 in TensorFlow 1.  Assigned before the first step it makes the
        state anew; later it counts only for state that is made later.
    bias_correction : bool
        Divide the running average by ``1 - rho^t``, t being the number of steps that the array has taken; not with
        `centered`, nor with an `initial_square_avg` other than 0.
    {prepared}

    {raises}

    References
    ----------
    Geoffrey Hinton, Neural Networks for Machine Learning, lecture 6e, 2012.

    Alex Graves, Generating sequences with recurrent neural networks, arXiv:1308.0850, 2013.

    Examples
    --------
    >>> import numpy as np, instep
    >>> weights = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
    >>> opt = instep.RMSprop(weights, lr=0.1)
    >>> opt.step({"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)})
    >>> weights["w"][0, 0].round(4)
    np.float32(0.6838)
    """

    __slots__ = ()

    rule = "rmsprop"

    lr: float = 1e-3
    rho: float = 0.9
    eps: float = 1e-8
    eps_inside: bool = False
    momentum: float = 0.0
    nesterov: bool = False
    lr_in_momentum: bool = False
    centered: bool = False
    initial_square_avg: float = 0.0
    bias_correction: bool = False

    @default_arithmetic
    def _make_states(self, options: Options, before: Options, old: dict[str, list[Array]]) -> dict[str, list[Array]]:
        states = super()._make_states(options, before, old)
        if "variance" in states and "square_avg" in old:  # grad_avg starts at 0, so that they are equal
            states["variance"] = old["square_avg"]
        elif "square_avg" in states and "variance" in old:
            averages = zip(old["variance"], old["grad_avg"], self._leaves, strict=True)
            states["square_avg"] = [
                encoded(square_avg_of(decoded(variance, param), decoded(grad_avg, param)), variance)
                for variance, grad_avg, param in averages
            ]
        return states


@native
def rmsprop(
    param: Any,
    grad: Any,
    square_avg: Any = None,
    *,
    variance: Any = None,
    grad_avg: Any = None,
    momentum_buffer: Any = None,
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
    {function}
    square_avg : numpy.ndarray
        The running average of the squared gradient, of the shape, dtype and layout of `param`.  Updated in place.
        Start it at 0; TensorFlow 1 starts it at 1.  Needed unless `centered`.
    variance, grad_avg : numpy.ndarray
        The running variance and average of the gradient, likewise; needed when `centered`, in the place of
        `square_avg`.
    momentum_buffer : numpy.ndarray
        The momentum, likewise, started at 0; needed when `momentum` is not 0.
    step_count : int
        Which step this is, from 1.  Only `bias_correction` depends on it.
    {options of RMSprop}
        `initial_square_avg` changes nothing here, where the caller makes the state; it may be given so that one set of
        options serves both.

    {function raises}

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
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    if centered:
        largest = np.finfo(param.dtype).max
        d = np.clip(g - grad_avg, -largest, largest)
        variance[...] = rho * (variance + (1 - rho) * d * d)
        grad_avg += (1 - rho) * d
        v = variance
    else:
        square_avg[...] = rho * square_avg + (1 - rho) * (g * g)
        v = square_avg
    if bias_correction:
        v = v * (1 / (1 - whole_power(rho, step_count)))

    if lr_in_momentum or not momentum:
        g = lr * g
    update = g / (np.sqrt(v + eps) if eps_inside else np.sqrt(v) + eps)
    if momentum:
        momentum_buffer[...] = momentum * momentum_buffer + update
        update = update + momentum * momentum_buffer if nesterov else momentum_buffer
        if not lr_in_momentum:
            update = lr * update
    param -= update


def variance_of(square_avg: Array, grad_avg: Array) -> Array:
    """The variance that centered RMSprop carries, from the averages that other libraries carry.

    Parameters
    ----------
    square_avg : numpy.ndarray
        The running average of the squared gradient.
    grad_avg : numpy.ndarray
        The running average of the gradient, of the same shape.

    Returns
    -------
    numpy.ndarray
        A new array of ``square_avg - grad_avg^2``, and of 0 where rounding makes that negative.

    Examples
    --------
    >>> import numpy as np, instep
    >>> instep.variance_of(np.array([5.0, 1.0]), np.array([2.0, 1.0]))
    array([1., 0.])
    """
    return np.asarray(np.maximum(square_avg - grad_avg * grad_avg, 0))


def square_avg_of(variance: Array, grad_avg: Array) -> Array:
    """The average of the squared gradient that other libraries carry, from the state of centered RMSprop.

    Parameters
    ----------
    variance : numpy.ndarray
        The running variance of the gradient.
    grad_avg : numpy.ndarray
        The running average of the gradient, of the same shape.

    Returns
    -------
    numpy.ndarray
        A new array of ``variance + grad_avg^2``.

    Examples
    --------
    >>> import numpy as np, instep
    >>> instep.square_avg_of(np.array([1.0, 0.0]), np.array([2.0, 1.0]))
    array([5., 1.])
    """
    return np.asarray(variance + grad_avg * grad_avg)
