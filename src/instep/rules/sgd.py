"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from ..arithmetic import prepared
from ..functions import native
from .momentum import WithMomentum


class SGD(WithMomentum):
    """Stochastic gradient descent, with or without momentum, over one array or many, in place.

    For every element, in this order:

    ===============================================================  =====================================
    {preparation}
    ``p = p - lr g``                                                 if `momentum` is 0; there is no state then
    ``u = (1 - dampening) g``                                        ``u = g`` in the first step, unless
                                                                     `dampen_first`
    ``b = momentum b + u; p = p - lr b``                             b is ``momentum_buffer``
    ``b = momentum b + lr u; p = p - b``                             if `lr_in_momentum`
    ``b`` in the last step becomes ``u + momentum b``                if `nesterov` (``lr u + ...`` likewise)
    ===============================================================  =====================================

    {bits}

    Parameters
    ----------
    {params}
    lr : float
        The learning rate; 0 or greater.
    momentum : float
        The decay of the momentum; in [0, 1); 0 for none.
    dampening : float
        How much weaker a gradient enters the momentum, in [0, 1); needs `momentum`, and not with `nesterov`.
    dampen_first : bool
        Dampen the first gradient of an array too (MLX), which torch takes whole.  Without `dampening`, as in MLX by
        default, it changes nothing.
    nesterov : bool
        Nesterov's momentum; needs `momentum`.
    lr_in_momentum : bool
        Multiply by `lr` what enters the momentum buffer (Keras, Flux) instead of what leaves it (torch, optax).  The
        two are the same for a constant `lr`, and without `momentum`, as in Keras by default.  Assigned between steps it
        converts the momentum by the present `lr`.
    {prepared}

    {raises}

    References
    ----------
    Boris Polyak, Some methods of speeding up the convergence of iteration methods, 1964.

    Ilya Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.

    The options are those of ``torch.optim.SGD``, ``keras.optimizers.SGD`` and ``optax.sgd`` together.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.array([1.0, 2.0])
    >>> opt = instep.SGD(param, lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     opt.step(np.array([1.0, 0.0]))
    >>> param.round(4)
    array([0.71, 2.  ])
    """

    __slots__ = ()

    rule = "sgd"

    lr: float = 1e-2
    momentum: float = 0.0
    dampening: float = 0.0
    dampen_first: bool = False
    nesterov: bool = False
    lr_in_momentum: bool = False


@native
def sgd(
    param: Any,
    grad: Any,
    momentum_buffer: Any = None,
    *,
    step_count: int = 1,
    lr: float = 1e-2,
    momentum: float = 0.0,
    dampening: float = 0.0,
    dampen_first: bool = False,
    nesterov: bool = False,
    lr_in_momentum: bool = False,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one step of stochastic gradient descent on one array, in place.

    ::

        momentum_buffer <- momentum momentum_buffer + grad
        param           <- param - lr momentum_buffer

    `instep.SGD` documents every option and its formula; `instep.reference.sgd` spells them out in NumPy and leaves the
    same bits.

    Parameters
    ----------
    {function}
    momentum_buffer : numpy.ndarray
        The momentum, of the shape, dtype and layout of `param`, started at 0.  Updated in place.  Needed when
        `momentum` is not 0.
    step_count : int
        Which step this is, from 1.  Only `dampening` depends on it.
    {options of SGD}

    {function raises}

    References
    ----------
    Boris Polyak, Some methods of speeding up the convergence of iteration methods, 1964.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.array([1.0, 2.0])
    >>> instep.sgd(param, np.array([1.0, 0.0]), lr=0.1)
    >>> param
    array([0.9, 2. ])
    """
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    scale_before = lr_in_momentum or not momentum
    dampened = step_count > 1 or dampen_first
    update = ((lr if scale_before else 1.0) * (1 - dampening if dampened else 1.0)) * g
    if momentum:
        momentum_buffer[...] = momentum * momentum_buffer + update
        update = update + momentum * momentum_buffer if nesterov else momentum_buffer
        if not lr_in_momentum:
            update = lr * update
    param -= update
