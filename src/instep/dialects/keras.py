"""keras.optimizers of Keras 3."""

from __future__ import annotations

from typing import Any

from . import Dialect, Dialects, Name

_COMMON: dict[str, Name] = dict(lr="learning_rate", weight_decay="weight_decay")
_DECOUPLED: dict[str, Any] = dict(decoupled_weight_decay=True)
_BETAS: dict[str, Name] = dict(beta1="beta_1", beta2="beta_2")
_ADAM: dict[str, Name] = _COMMON | _BETAS | dict(eps="epsilon", amsgrad="amsgrad")
_OPTIONAL = ("weight_decay",)
_ADAM_STATES = dict(grad_avg="momentum", square_avg="velocity", max_square_avg="velocity_hat")

DIALECTS: Dialects = {
    "keras": {
        "rmsprop": Dialect(
            preset=dict(lr=1e-3, rho=0.9, eps=1e-7, eps_inside=True, lr_in_momentum=True) | _DECOUPLED,
            names=_COMMON | dict(rho="rho", eps="epsilon", momentum="momentum", centered="centered"),
            states=dict(square_avg="velocity", momentum_buffer="momentum", grad_avg="average_gradient"),
            optional=_OPTIONAL,
        ),
        "sgd": Dialect(
            preset=dict(lr=1e-2, lr_in_momentum=True) | _DECOUPLED,
            names=_COMMON | dict(momentum="momentum", nesterov="nesterov"),
            states=dict(momentum_buffer="momentum"),
            optional=_OPTIONAL,
        ),
        "adagrad": Dialect(
            preset=dict(lr=1e-3, eps=1e-7, eps_inside=True, initial_square_sum=0.1) | _DECOUPLED,
            names=_COMMON | dict(eps="epsilon", initial_square_sum="initial_accumulator_value"),
            states=dict(square_sum="accumulator"),
            optional=_OPTIONAL,
        ),
        "adam": Dialect(
            preset=dict(lr=1e-3, eps=1e-7, eps_hat=True) | _DECOUPLED,
            names=_ADAM,
            states=_ADAM_STATES,
            optional=_OPTIONAL,
        ),
        "adamw": Dialect(
            preset=dict(lr=1e-3, eps=1e-7, eps_hat=True, weight_decay=4e-3),
            names=_ADAM,
            states=_ADAM_STATES,
        ),
        "adadelta": Dialect(
            preset=dict(lr=1e-3, rho=0.95, eps=1e-7) | _DECOUPLED,
            names=_COMMON | dict(rho="rho", eps="epsilon"),
            states=dict(square_avg="accumulated_grad", square_update_avg="accumulated_delta_var"),
            optional=_OPTIONAL,
        ),
        "lion": Dialect(
            preset=dict(lr=1e-3) | _DECOUPLED,
            names=_COMMON | _BETAS,
            states=dict(grad_avg="momentum"),
            optional=_OPTIONAL,
        ),
    }
}
