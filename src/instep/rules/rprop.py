"""Rprop."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic import prepared, towards
from ..functions import native
from ..optimizers import Optimizer


class Rprop(Optimizer):
    """Rprop over one array or many, in place: steps that go by the sign of the gradient alone.

    For whole batches: RMSprop is what brought it to small ones.  For every element, in this order:

    ===============================================================  =====================================
    {preparation}
    ``x = g' g``                                                     g' is ``prev_grad``, s ``step_size``
    ``s = s eta_plus``                                               where ``x > 0``
    ``s = s eta_minus; g = 0``                                       where ``x < 0``
    ``s = max(step_min, min(step_max, s))``
    ``p = p - sign(g) s; g' = g``
    ===============================================================  =====================================

    {bits}

    Parameters
    ----------
    {params}
    lr : float
        What ``step_size`` starts at; 0 or greater.  Assigned before the first step it makes the state anew; later it
        counts only for decoupled weight decay and for state that is made later.
    eta_minus : float
        By what a step shrinks where the gradient has changed its sign; in (0, 1).
    eta_plus : float
        By what a step grows where it has not; greater than 1.
    step_min : float
        The shortest step; 0 or greater.
    step_max : float
        The longest step; greater than 0, and not less than `step_min`.
    {prepared}

    {raises}

    References
    ----------
    Martin Riedmiller and Heinrich Braun, A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm, 1993; without weight backtracking, as in ``torch.optim.Rprop``.  optax 0.2.8 emits the update of the step
    before, which is not copied here.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.zeros(2)
    >>> opt = instep.Rprop(param, lr=0.1)
    >>> for _ in range(2):
    ...     opt.step(np.array([0.5, 0.0]))
    >>> param.round(4)
    array([-0.22,  0.  ])
    """

    __slots__ = ()

    rule = "rprop"

    lr: float = 1e-2
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    step_min: float = 1e-6
    step_max: float = 50.0


@native
def rprop(
    param: Any,
    grad: Any,
    step_size: Any = None,
    prev_grad: Any = None,
    *,
    step_count: int = 1,
    lr: float = 1e-2,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-6,
    step_max: float = 50.0,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one Rprop step on one array, in place.

    ::

        step_size <- step_size eta_plus where grad has the sign of prev_grad, step_size eta_minus where it has the other
        param     <- param - sign(grad) step_size, where grad has not changed its sign

    `instep.Rprop` documents every option and the formula; `instep.reference.rprop` spells it out in NumPy and leaves
    the same bits.

    Parameters
    ----------
    {function}
    step_size : numpy.ndarray
        The length of each element's step, of the shape, dtype and layout of `param`.  Updated in place.  Start it at
        `lr`.
    prev_grad : numpy.ndarray
        The gradient of the step before, likewise, started at 0.
    step_count : int
        Which step this is, from 1.  Nothing depends on it; it may be given as to the other rules.
    {options of Rprop}
        `lr` counts only for decoupled weight decay here, where the caller makes the state.

    {function raises}

    References
    ----------
    Martin Riedmiller and Heinrich Braun, A direct adaptive method for faster backpropagation learning, 1993.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, step_size, prev_grad = np.zeros(2), np.full(2, 0.1), np.zeros(2)
    >>> instep.rprop(param, np.array([0.5, 0.0]), step_size, prev_grad)
    >>> param.round(4)
    array([-0.1,  0. ])
    """
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    number = param.dtype.type
    x = prev_grad * g
    factor = np.where(x > 0, number(eta_plus), np.where(x < 0, number(eta_minus), number(1)))
    step = step_size * factor
    step = np.where(step > step_max, number(step_max), step)
    step_size[...] = np.where(step < step_min, number(step_min) + number(0), step)  # flushed
    g = np.where(x < 0, number(0), g)
    param -= towards(g, step_size)
    prev_grad[...] = g
