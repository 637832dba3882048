"""Lion."""

from __future__ import annotations

from typing import Any

from ..arithmetic import prepared, towards
from ..functions import native
from ..optimizers import Optimizer


class Lion(Optimizer):
    """Lion over one array or many, in place: the sign of a momentum, with one state array.

    For every element, in this order:

    ===============================================================  =====================================
    {preparation}
    ``p = p - lr sign(beta1 m + (1 - beta1) g)``                     m is ``grad_avg``
    ``m = beta2 m + (1 - beta2) g``
    ===============================================================  =====================================

    {bits}

    Parameters
    ----------
    {params}
    lr : float
        The learning rate, which is the length of every step; 0 or greater.
    beta1 : float
        How much of the average counts in the direction of a step; in [0, 1).
    beta2 : float
        How much of the average of gradients a step keeps; in [0, 1).
    {prepared}

    {raises}

    References
    ----------
    Xiangning Chen et al., Symbolic discovery of optimization algorithms, arXiv:2302.06675, 2023.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.zeros(2)
    >>> opt = instep.Lion(param, lr=0.1)
    >>> opt.step(np.array([0.5, 0.0]))
    >>> param.round(4)
    array([-0.1,  0. ])
    """

    __slots__ = ()

    rule = "lion"

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99


@native
def lion(
    param: Any,
    grad: Any,
    grad_avg: Any = None,
    *,
    step_count: int = 1,
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one Lion step on one array, in place.

    ::

        param    <- param - lr sign(beta1 grad_avg + (1 - beta1) grad)
        grad_avg <- beta2 grad_avg + (1 - beta2) grad

    `instep.Lion` documents every option; `instep.reference.lion` spells the formula out in NumPy and leaves the same
    bits.

    Parameters
    ----------
    {function}
    grad_avg : numpy.ndarray
        The running average of the gradient, of the shape, dtype and layout of `param`, started at 0.  Updated in place.
    step_count : int
        Which step this is, from 1.  Nothing depends on it; it may be given as to the other rules.
    {options of Lion}

    {function raises}

    References
    ----------
    Xiangning Chen et al., Symbolic discovery of optimization algorithms, arXiv:2302.06675, 2023.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, grad_avg = np.zeros(2), np.zeros(2)
    >>> instep.lion(param, np.array([0.5, 0.0]), grad_avg, lr=0.1)
    >>> param.round(4)
    array([-0.1,  0. ])
    """
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    param -= towards(beta1 * grad_avg + (1 - beta1) * g, lr)
    grad_avg[...] = beta2 * grad_avg + (1 - beta2) * g
