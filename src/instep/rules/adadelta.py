"""Adadelta."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic import prepared
from ..functions import native
from ..optimizers import Optimizer


class Adadelta(Optimizer):
    """Adadelta over one array or many, in place: RMSprop with the size of its recent steps for a learning rate.

    For every element, in this order:

    ===============================================================  =====================================
    {preparation}
    ``v = rho v + (1 - rho) g^2``                                    v is ``square_avg``
    ``u = sqrt(d + eps) / sqrt(v + eps) g``                          d is ``square_update_avg``
    ``d = rho d + (1 - rho) u^2``
    ``p = p - lr u``
    ===============================================================  =====================================

    {bits}

    Parameters
    ----------
    {params}
    lr : float
        What an update is multiplied by; 1 in the paper.  0 or greater.
    rho : float
        How much of the running averages a step keeps; in [0, 1).
    eps : float
        Makes the first step possible and keeps the denominator from 0; greater than 0 in the dtype of every array.
    {prepared}

    {raises}

    References
    ----------
    Matthew Zeiler, ADADELTA: an adaptive learning rate method, arXiv:1212.5701, 2012.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.zeros(2)
    >>> opt = instep.Adadelta(param)
    >>> opt.step(np.array([0.5, 0.0]))
    >>> param.round(4)
    array([-0.0032,  0.    ])
    """

    __slots__ = ()

    rule = "adadelta"

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6


@native
def adadelta(
    param: Any,
    grad: Any,
    square_avg: Any = None,
    square_update_avg: Any = None,
    *,
    step_count: int = 1,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one Adadelta step on one array, in place.

    ::

        square_avg        <- rho square_avg + (1 - rho) grad^2
        update            <- sqrt(square_update_avg + eps) / sqrt(square_avg + eps) grad
        square_update_avg <- rho square_update_avg + (1 - rho) update^2
        param             <- param - lr update

    `instep.Adadelta` documents every option; `instep.reference.adadelta` spells the formula out in NumPy and leaves the
    same bits.

    Parameters
    ----------
    {function}
    square_avg, square_update_avg : numpy.ndarray
        The running averages of the squared gradient and of the squared update, of the shape, dtype and layout of
        `param`, started at 0.  Updated in place.
    step_count : int
        Which step this is, from 1.  Nothing depends on it; it may be given as to the other rules.
    {options of Adadelta}

    {function raises}

    References
    ----------
    Matthew Zeiler, ADADELTA: an adaptive learning rate method, arXiv:1212.5701, 2012.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, square_avg, square_update_avg = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> instep.adadelta(param, np.array([0.5, 0.0]), square_avg, square_update_avg)
    >>> param.round(4)
    array([-0.0032,  0.    ])
    """
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    square_avg[...] = rho * square_avg + (1 - rho) * (g * g)
    update = np.sqrt(square_update_avg + eps) / np.sqrt(square_avg + eps) * g
    square_update_avg[...] = rho * square_update_avg + (1 - rho) * (update * update)
    param -= lr * update
