"""The optimizer that stable-baselines3 adds to those of torch."""

from __future__ import annotations

from stable_baselines3.common.sb2_compat import rmsprop_tf_like

import instep

from .dropin import Dropin

__all__ = ["RMSpropTFLike"]


class RMSpropTFLike(Dropin, rmsprop_tf_like.RMSpropTFLike, here=instep.RMSprop, framework="sb3"):  # type: ignore[misc, unused-ignore]
    """RMSprop with eps inside the root and averages that start at 1, as stable-baselines3's ``RMSpropTFLike``.

    The arguments are those of that class, whose own step is taken for ``centered=True``.  Pass it to a policy as
    ``policy_kwargs=dict(optimizer_class=RMSpropTFLike)``.
    """

    _counter = int
