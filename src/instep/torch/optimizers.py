"""The classes, each in the place of the one of the same name in ``torch.optim``."""

from __future__ import annotations

import torch.optim

import instep

from .dropin import Dropin


class RMSprop(Dropin, torch.optim.RMSprop, here=instep.RMSprop):
    """RMSprop, as ``torch.optim.RMSprop``; torch's own step is taken for ``centered=True``."""


class SGD(Dropin, torch.optim.SGD, here=instep.SGD):
    """Stochastic gradient descent, as ``torch.optim.SGD``."""

    _counter = None


class Adagrad(Dropin, torch.optim.Adagrad, here=instep.Adagrad):
    """Adagrad, as ``torch.optim.Adagrad``; torch's own step is taken for sparse gradients."""

    _reads_tensors = False


class Adam(Dropin, torch.optim.Adam, here=instep.Adam):
    """Adam, as ``torch.optim.Adam``."""

    _reads_tensors = False


class AdamW(Dropin, torch.optim.AdamW, here=instep.AdamW):
    """AdamW, as ``torch.optim.AdamW``."""

    _reads_tensors = False


class Adadelta(Dropin, torch.optim.Adadelta, here=instep.Adadelta):
    """Adadelta, as ``torch.optim.Adadelta``."""


class Rprop(Dropin, torch.optim.Rprop, here=instep.Rprop):
    """Rprop, as ``torch.optim.Rprop``, but for a gradient that is not a number: it makes the parameter one as well."""
