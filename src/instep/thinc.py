"""Adam for thinc and spaCy, in the place of thinc's own.

It stands in thinc's catalogue as soon as both packages are installed; a config needs no import::

    [optimizer]
    @optimizers = "instep.Adam.v1"
    learn_rate = 0.001
"""

# No `from __future__ import annotations`: a config is checked by the annotations of `Adam.__init__`.

from typing import Any

import numpy as np

try:
    from thinc import optimizers as theirs
except ModuleNotFoundError as error:
    if error.name != "thinc":
        raise
    raise ModuleNotFoundError(
        "instep.thinc has an optimizer for thinc, which is not installed: pip install thinc (the extra thinc)",
        name="thinc",
    ) from None

from .rules.adam import adam

__all__ = ["Adam"]


class Adam(theirs.Optimizer):
    """Adam with the arguments, schedules, averages and results of ``thinc.api.Adam``, and a step by instep.

    All that thinc does beside the formula is still done by thinc: schedules, ``lr_scale``, clipping by `grad_clip`,
    `L2`, averages, and whole steps of arrays that are not NumPy's.  thinc rounds `beta1`, `beta2`, `eps` and the rate
    to float32 and instep does not, so the results differ in the fifth digit of a step.

    Parameters
    ----------
    learn_rate : float, list, generator or Schedule
        The learning rate, as all arguments that are numbers: one, or a schedule of them.
    L2 : float, list, generator or Schedule
        How much the weights decay.
    beta1, beta2 : float, list, generator or Schedule
        How much of the averages of the gradient and of its square a step keeps; in [0, 1).
    eps : float, list, generator or Schedule
        Added to the root; greater than 0.
    grad_clip : float, list, generator or Schedule
        The largest norm of a gradient; 0 for none.
    L2_is_weight_decay : bool
        Take `L2` of the weights after the step instead of adding it to the gradient before.
    use_averages : bool
        Keep averages of the weights, for ``model.use_params(optimizer.averages)``.

    Raises
    ------
    TypeError
        From a step: the weights are not float32.
    ValueError
        From a step, where thinc would go on: the value of a schedule is out of its range.  The array, its averages and
        its count of steps have not changed.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.thinc import Adam
    >>> optimizer = Adam(0.1)
    >>> weights, gradient = np.zeros(2, np.float32), np.array([0.5, 0.0], np.float32)
    >>> weights, gradient = optimizer((1, "W"), weights, gradient)
    >>> weights.round(4)
    array([-0.1,  0. ], dtype=float32)
    """

    __slots__ = ()

    def __init__(
        self,
        learn_rate: theirs.ScheduleT = theirs.ADAM_DEFAULTS["learn_rate"],
        *,
        L2: theirs.ScheduleT = theirs.ADAM_DEFAULTS["L2"],
        beta1: theirs.ScheduleT = theirs.ADAM_DEFAULTS["beta1"],
        beta2: theirs.ScheduleT = theirs.ADAM_DEFAULTS["beta2"],
        eps: theirs.ScheduleT = theirs.ADAM_DEFAULTS["eps"],
        grad_clip: theirs.ScheduleT = theirs.ADAM_DEFAULTS["grad_clip"],
        L2_is_weight_decay: bool = bool(theirs.ADAM_DEFAULTS["L2_is_weight_decay"]),
        use_averages: bool = True,
    ) -> None:
        super().__init__(
            learn_rate,
            L2=L2,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            grad_clip=grad_clip,
            L2_is_weight_decay=L2_is_weight_decay,
            use_averages=use_averages,
        )

    def _adam(self, ops: Any, weights: Any, gradient: Any, lr_scale: float, key: Any, nr_upd: int) -> Any:
        if not isinstance(weights, np.ndarray):
            of_thinc: Any = super()._adam
            return of_thinc(ops, weights, gradient, lr_scale, key, nr_upd)
        try:
            flat_weights, flat_gradient = self._stepped(ops, weights, gradient, lr_scale, key, nr_upd)
        except BaseException:
            self.nr_update[key] = nr_upd - 1  # thinc has counted the step before it is taken
            raise
        flat_gradient[...] = 0  # as thinc's: multiplied by 0, as it is next, a NaN would stay
        return ops.reshape_f(flat_weights, weights.shape), ops.reshape_f(flat_gradient, gradient.shape)

    def _stepped(self, ops: Any, weights: Any, gradient: Any, lr_scale: float, key: Any, nr_upd: int) -> Any:
        """The weights and the gradient, flat."""
        if weights.dtype != np.float32:  # the moments of thinc are
            raise TypeError(f"weights must be float32, not {weights.dtype}")
        flat_weights, flat_gradient = ops.reshape1f(weights, weights.size), ops.reshape1f(gradient, gradient.size)
        for moments in (self.mom1, self.mom2):
            if key not in moments:
                moments[key] = ops.alloc1f(weights.size)
        now = self._schedule_args(key)
        adam(
            flat_weights,
            flat_gradient,
            self.mom1[key],
            self.mom2[key],
            step_count=nr_upd,
            lr=lr_scale * self.learn_rate(self.step, **now),
            beta1=self.b1(self.step, **now),
            beta2=self.b2(self.step, **now),
            eps=self.eps(self.step, **now),
            eps_hat=True,
        )
        return flat_weights, flat_gradient
