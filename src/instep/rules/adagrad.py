"""Adagrad."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic import prepared
from ..functions import native
from ..optimizers import Optimizer


class Adagrad(Optimizer):
    """Adagrad over one array or many, in place: RMSprop's ancestor, with a sum where RMSprop has an average.

    For every element, in this order:

    ===============================================================  =====================================
    {preparation}
    ``s = s + g^2``                                                  s is ``square_sum``
    ``r = lr / (1 + (t - 1) lr_decay)``                              t counts the steps of the array
    ``p = p - r g / (sqrt(s) + eps)``                                ``r g / sqrt(s + eps)`` if `eps_inside`
    ===============================================================  =====================================

    {bits}

    Parameters
    ----------
    {params}
    lr : float
        The learning rate; 0 or greater.
    lr_decay : float
        How fast the learning rate falls with the number of steps; 0 or greater.
    eps : float
        Keeps the denominator from 0; greater than 0 in the dtype of every array.
    eps_inside : bool
        Add `eps` inside the square root (Keras, optax) instead of outside (torch).
    initial_square_sum : float
        What ``square_sum`` starts at; 0.1 in Keras and optax.  Assigned before the first step it makes the state anew;
        later it counts only for state that is made later.
    {prepared}

    {raises}

    References
    ----------
    John Duchi, Elad Hazan and Yoram Singer, Adaptive subgradient methods for online learning and stochastic
    optimization, Journal of Machine Learning Research 12, 2011.

    `lr_decay` is that of ``torch.optim.Adagrad``.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.zeros(2)
    >>> opt = instep.Adagrad(param, lr=0.1)
    >>> for _ in range(2):
    ...     opt.step(np.array([0.5, 0.0]))
    >>> param.round(4)
    array([-0.1707,  0.    ])
    """

    __slots__ = ()

    rule = "adagrad"

    lr: float = 1e-2
    lr_decay: float = 0.0
    eps: float = 1e-10
    eps_inside: bool = False
    initial_square_sum: float = 0.0


@native
def adagrad(
    param: Any,
    grad: Any,
    square_sum: Any = None,
    *,
    step_count: int = 1,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    eps_inside: bool = False,
    initial_square_sum: float = 0.0,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one Adagrad step on one array, in place.

    ::

        square_sum <- square_sum + grad^2
        param      <- param - lr grad / (sqrt(square_sum) + eps)

    `instep.Adagrad` documents every option and its formula; `instep.reference.adagrad` spells them out in NumPy and
    leaves the same bits.

    Parameters
    ----------
    {function}
    square_sum : numpy.ndarray
        The sum of the squared gradients, of the shape, dtype and layout of `param`.  Updated in place.  Start it at
        0; Keras and optax start it at 0.1.
    step_count : int
        Which step this is, from 1.  Only `lr_decay` depends on it.
    {options of Adagrad}
        `initial_square_sum` changes nothing here, where the caller makes the state; it may be given so that one set of
        options serves both.

    {function raises}

    References
    ----------
    John Duchi, Elad Hazan and Yoram Singer, Journal of Machine Learning Research 12, 2011.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, square_sum = np.zeros(2), np.zeros(2)
    >>> instep.adagrad(param, np.array([0.5, 0.0]), square_sum, lr=0.1)
    >>> param.round(4)
    array([-0.1,  0. ])
    """
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    square_sum[...] = square_sum + g * g
    rate = lr / (1 + (step_count - 1) * lr_decay)
    param -= rate * g / (np.sqrt(square_sum + eps) if eps_inside else np.sqrt(square_sum) + eps)
