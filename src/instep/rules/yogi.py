"""Yogi."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..arithmetic import prepared, towards, whole_power
from ..functions import native
from ..optimizers import Optimizer


class Yogi(Optimizer):
    """Yogi over one array or many, in place: Adam whose average of squares forgets no faster than it learns.

    For every element, in this order:

    ===============================================================  =====================================
    {preparation}
    ``m = beta1 m + (1 - beta1) g``                                  m is ``grad_avg``
    ``v = v - (1 - beta2) sign(v - g^2) g^2``                        v is ``square_avg``
    ``d = m / (1 - beta1^t)``                                        ``d = m`` without `bias_correction`
    ``c = v / (1 - beta2^t)``                                        ``c = v`` without `bias_correction`
    ``p = p - lr d / (sqrt(c + eps_root) + eps)``                    `eps` and `eps_root` grow with the
                                                                     correction of v if `eps_hat`
    ===============================================================  =====================================

    {bits}

    Parameters
    ----------
    {params}
    lr : float
        The learning rate; 0 or greater.
    beta1 : float
        How much of the average of gradients a step keeps; in [0, 1).
    beta2 : float
        How little of a squared gradient moves the average of squares; in [0, 1).
    eps : float
        Keeps the denominator from 0; greater than 0 in the dtype of every array.
    eps_root : float
        Added inside the square root as well (optax); 0 or greater.
    eps_hat : bool
        Add `eps` beside the root of the average as it is, before its bias is corrected, as for `Adam`; needs
        `bias_correction`.
    initial_grad_avg, initial_square_avg : float
        What ``grad_avg`` and ``square_avg`` start at; 1e-6 for both in optax.  Assigned before the first step they make
        the state anew; later they count only for state that is made later.
    bias_correction : bool
        Correct both averages as if they had started at 0, t being the number of steps that the array has taken.
    {prepared}

    {raises}

    References
    ----------
    Manzil Zaheer, Sashank Reddi, Devendra Sachan, Satyen Kale and Sanjiv Kumar, Adaptive methods for nonconvex
    optimization, NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.zeros(2)
    >>> opt = instep.Yogi(param, lr=0.1)
    >>> opt.step(np.array([0.5, 0.0]))
    >>> param.round(4)
    array([-0.0996,  0.    ])
    """

    __slots__ = ()

    rule = "yogi"

    lr: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-3
    eps_root: float = 0.0
    eps_hat: bool = False
    initial_grad_avg: float = 0.0
    initial_square_avg: float = 1e-6
    bias_correction: bool = True


@native
def yogi(
    param: Any,
    grad: Any,
    grad_avg: Any = None,
    square_avg: Any = None,
    *,
    step_count: int = 1,
    lr: float = 1e-2,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-3,
    eps_root: float = 0.0,
    eps_hat: bool = False,
    initial_grad_avg: float = 0.0,
    initial_square_avg: float = 1e-6,
    bias_correction: bool = True,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one Yogi step on one array, in place.

    ::

        grad_avg   <- beta1 grad_avg + (1 - beta1) grad
        square_avg <- square_avg - (1 - beta2) sign(square_avg - grad^2) grad^2
        param      <- param - lr / (1 - beta1^t) grad_avg / (sqrt(square_avg / (1 - beta2^t)) + eps)

    `instep.Yogi` documents every option and its formula; `instep.reference.yogi` spells them out in NumPy and leaves
    the same bits.

    Parameters
    ----------
    {function}
    grad_avg, square_avg : numpy.ndarray
        The running average of the gradient and Yogi's estimate of its square, of the shape, dtype and layout of
        `param`.  Updated in place.  Start them at `initial_grad_avg` and `initial_square_avg`.
    step_count : int
        Which step this is, from 1: t in the formula.
    {options of Yogi}
        `initial_grad_avg` and `initial_square_avg` change nothing here, where the caller makes the state; they may be
        given so that one set of options serves both.

    {function raises}

    References
    ----------
    Manzil Zaheer et al., Adaptive methods for nonconvex optimization, NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, grad_avg, square_avg = np.zeros(2), np.zeros(2), np.full(2, 1e-6)
    >>> instep.yogi(param, np.array([0.5, 0.0]), grad_avg, square_avg, lr=0.1)
    >>> param.round(4)
    array([-0.0996,  0.    ])
    """
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    bias1 = 1 - whole_power(beta1, step_count) if bias_correction else 1.0
    bias2 = 1 - whole_power(beta2, step_count) if bias_correction else 1.0
    if eps_hat:
        eps_root, eps = eps_root / bias2, eps / sqrt(bias2)

    square = g * g
    grad_avg[...] = beta1 * grad_avg + (1 - beta1) * g
    square_avg -= towards(square_avg - square, (1 - beta2) * square)
    param -= lr / bias1 * grad_avg / (np.sqrt(square_avg * (1 / bias2) + eps_root) + eps)
