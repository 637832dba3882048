"""The RMSprop that timm adds to those of torch."""

from __future__ import annotations

from timm.optim import rmsprop_tf

import instep

from .dropin import Dropin

__all__ = ["RMSpropTF"]


class RMSpropTF(Dropin, rmsprop_tf.RMSpropTF, here=instep.RMSprop, framework="timm"):
    """RMSprop with eps inside the root and lr in the momentum, as timm's ``RMSpropTF``.

    The arguments are those of that class, whose own step is taken for ``centered``, ``caution`` and
    ``corrected_weight_decay``.
    """

    _reads_tensors = False
