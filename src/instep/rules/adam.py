"""Adam, and AdamW."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..arithmetic import prepared, whole_power
from ..functions import native, variant
from ..optimizers import Optimizer


class Adam(Optimizer):
    """Adam over one array or many, in place: RMSprop with momentum and bias corrections; AMSGrad by an option.

    For every element, in this order:

    ===============================================================  =====================================
    {preparation}
    ``m = beta1 m + (1 - beta1) g``                                  m is ``grad_avg``
    ``v = beta2 v + (1 - beta2) g^2``                                v is ``square_avg``
    ``d = m / (1 - beta1^t)``                                        ``d = m`` without `bias_correction`
    ``d = beta1 m / (1 - beta1^(t+1))``                              if `nesterov`, and then
    ``d = d + (1 - beta1) g / (1 - beta1^t)``
    ``c = v / (1 - beta2^t)``                                        ``c = v`` without `bias_correction`
    ``x = max(x, v); c = x / (1 - beta2^t)``                         if `amsgrad`; x is ``max_square_avg``
    ``x = max(x, c); c = x``                                         if `amsgrad_corrected`
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
        How much of the average of their squares a step keeps; in [0, 1).
    eps : float
        Keeps the denominator from 0; greater than 0 in the dtype of every array.
    eps_root : float
        Added inside the square root as well (optax); 0 or greater.
    eps_hat : bool
        Add `eps` beside the root of the average as it is, before its bias is corrected: the "epsilon hat" of the paper,
        which TensorFlow and Keras use.  It is ``1 / sqrt(1 - beta2^t)`` times as large then, 31.6 times in the first
        step.  Needs `bias_correction`.
    amsgrad : bool
        Divide by the largest average of squares so far (AMSGrad).
    amsgrad_corrected : bool
        Take the largest of the averages whose bias is corrected (optax) instead of the averages as they are (torch,
        Keras); needs `amsgrad`.  Without `bias_correction`, which optax's can do without, the two are the same.
    nesterov : bool
        Nesterov's momentum as optax has it.
    bias_correction : bool
        Correct both averages for having started at 0, t being the number of steps that the array has taken.
    {prepared}

    {raises}

    References
    ----------
    Diederik Kingma and Jimmy Ba, Adam: a method for stochastic optimization, arXiv:1412.6980, 2015.

    Sashank Reddi, Satyen Kale and Sanjiv Kumar, On the convergence of Adam and beyond, ICLR 2018.

    Timothy Dozat, Incorporating Nesterov momentum into Adam, 2016.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.zeros(2)
    >>> opt = instep.Adam(param, lr=0.1)
    >>> for _ in range(2):
    ...     opt.step(np.array([0.5, 0.0]))
    >>> param.round(4)
    array([-0.2,  0. ])
    """

    __slots__ = ()

    rule = "adam"

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 0.0
    eps_hat: bool = False
    amsgrad: bool = False
    amsgrad_corrected: bool = False
    nesterov: bool = False
    bias_correction: bool = True


class AdamW(Adam):
    """`Adam` with decoupled weight decay, ``weight_decay=0.01`` by default as in torch.

    ``p = (1 - lr weight_decay) p`` comes before the update, where `Adam` would add ``weight_decay p`` to the gradient,
    of which its normalized step then leaves little.  All else is `Adam`'s.  What `instep.load` makes of its checkpoint
    is an `Adam` with these options.

    Parameters
    ----------
    {params}
    lr, beta1, beta2, eps, eps_root, eps_hat, amsgrad, amsgrad_corrected, nesterov, bias_correction
        As for `Adam`.
    {prepared}

    {raises}

    References
    ----------
    Ilya Loshchilov and Frank Hutter, Decoupled weight decay regularization, arXiv:1711.05101, 2019.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.ones(2)
    >>> opt = instep.AdamW(param, lr=0.1)
    >>> opt.step(np.array([0.5, 0.0]))
    >>> param.round(4)
    array([0.899, 0.999])
    """

    __slots__ = ()

    weight_decay: float = 0.01
    decoupled_weight_decay: bool = True


@native
def adam(
    param: Any,
    grad: Any,
    grad_avg: Any = None,
    square_avg: Any = None,
    *,
    max_square_avg: Any = None,
    step_count: int = 1,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    eps_hat: bool = False,
    amsgrad: bool = False,
    amsgrad_corrected: bool = False,
    nesterov: bool = False,
    bias_correction: bool = True,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one Adam step on one array, in place.

    ::

        grad_avg   <- beta1 grad_avg + (1 - beta1) grad
        square_avg <- beta2 square_avg + (1 - beta2) grad^2
        param      <- param - lr / (1 - beta1^t) grad_avg / (sqrt(square_avg / (1 - beta2^t)) + eps)

    `instep.Adam` documents every option and its formula; `instep.reference.adam` spells them out in NumPy and leaves
    the same bits.

    Parameters
    ----------
    {function}
    grad_avg, square_avg : numpy.ndarray
        The running averages of the gradient and of its square, of the shape, dtype and layout of `param`, started at 0.
        Updated in place.
    max_square_avg : numpy.ndarray
        The largest average of squares so far, likewise; needed with `amsgrad`.
    step_count : int
        Which step this is, from 1: t in the formula.
    {options of Adam}

    {function raises}

    References
    ----------
    Diederik Kingma and Jimmy Ba, Adam: a method for stochastic optimization, arXiv:1412.6980, 2015.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, grad_avg, square_avg = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> instep.adam(param, np.array([0.5, 0.0]), grad_avg, square_avg, lr=0.1)
    >>> param.round(4)
    array([-0.1,  0. ])
    """
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    power1 = whole_power(beta1, step_count)
    bias1, bias1_ahead = (1 - power1, 1 - beta1 * power1) if bias_correction else (1.0, 1.0)
    bias2 = 1 - whole_power(beta2, step_count) if bias_correction else 1.0
    if eps_hat:
        eps_root, eps = eps_root / bias2, eps / sqrt(bias2)

    grad_avg[...] = beta1 * grad_avg + (1 - beta1) * g
    square_avg[...] = beta2 * square_avg + (1 - beta2) * (g * g)
    if nesterov:
        rate, m = lr, beta1 / bias1_ahead * grad_avg + (1 - beta1) / bias1 * g
    else:
        rate, m = lr / bias1, grad_avg
    if amsgrad:
        v = square_avg * (1 / bias2) if amsgrad_corrected else square_avg
        max_square_avg[...] = np.where(v > max_square_avg, v, max_square_avg) + 0.0  # flushed
        v = max_square_avg if amsgrad_corrected else max_square_avg * (1 / bias2)
    else:
        v = square_avg * (1 / bias2)
    param -= rate * m / (np.sqrt(v + eps_root) + eps)


adamw = variant(
    adam,
    "adamw",
    """Take one AdamW step on one array, in place: `instep.adam` with the defaults of `instep.AdamW`.

    Parameters
    ----------
    {function}
    grad_avg, square_avg, max_square_avg : numpy.ndarray
        As for `instep.adam`.
    step_count : int
        Which step this is, from 1.
    {options of AdamW}

    {function raises}

    References
    ----------
    Ilya Loshchilov and Frank Hutter, Decoupled weight decay regularization, arXiv:1711.05101, 2019.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, grad_avg, square_avg = np.ones(2), np.zeros(2), np.zeros(2)
    >>> instep.adamw(param, np.array([0.5, 0.0]), grad_avg, square_avg, lr=0.1)
    >>> param.round(4)
    array([0.899, 0.999])
    """,
    weight_decay=0.01,
    decoupled_weight_decay=True,
)
