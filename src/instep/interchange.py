"""Runs that move between instep and torch, Keras or optax in mid-training.

`from_torch`, `from_keras` and `from_optax` make an optimizer that goes on where the other one stopped; `to_torch`,
`to_keras` and `to_optax` go back.  The class comes first, for a state does not say whose it is.  The parameters stay
the caller's to move.  What the other side cannot express, or would express by another formula, is refused with a
ValueError.  No framework is imported but torch, by `to_torch`.

Each framework's names for options and state stand in ``instep/dialects``.  Only two kinds of state need arithmetic: the
variance of centered RMSprop, by `instep.variance_of` and `instep.square_avg_of`, and the momentum, which is negated in
Keras's SGD and optax's RMSprop, and multiplied or divided by the present `lr` where that enters it at the other end.

Positions count where the others have no names: the arrays go in the order in which the params of the instep optimizer
hold them, which must be the order of ``model.parameters()``, or of torch's groups one after the other where there are
several, and of Keras's trainable variables.  optax has the nesting.

Groups go to torch and come from there; what Keras and optax take has the same options for all arrays.  States of fewer
bits leave as the float32 numbers that they stand for.  The masters of parameters in 16 bits stay here: there is a
ValueError where there are any.
"""

from __future__ import annotations

from .dialects.keras import from_keras, to_keras
from .dialects.optax import from_optax, to_optax
from .dialects.torch import from_torch, to_torch

__all__ = ["from_keras", "from_optax", "from_torch", "to_keras", "to_optax", "to_torch"]
