"""optax."""

from __future__ import annotations

from typing import Any

from . import Dialect, Dialects, Given, Name

_LR: dict[str, Name] = dict(lr="learning_rate")
_BETAS: dict[str, Name] = dict(beta1="b1", beta2="b2")
_ADAM: dict[str, Name] = _LR | _BETAS | dict(eps="eps", eps_root="eps_root", nesterov="nesterov")
_ADAM_STATES = dict(grad_avg="mu", square_avg="nu", max_square_avg="nu_max")
_AMSGRAD: dict[Given, dict[str, Any]] = {("amsgrad", True): dict(amsgrad_corrected=True)}

DIALECTS: Dialects = {
    "optax": {
        "rmsprop": Dialect(
            preset=dict(rho=0.9, eps=1e-8, eps_inside=True, lr_in_momentum=True),
            names=_LR
            | dict(
                rho="decay",
                eps="eps",
                initial_square_avg="initial_scale",
                eps_inside="eps_in_sqrt",
                centered="centered",
                momentum="momentum",
                nesterov="nesterov",
                bias_correction="bias_correction",
            ),
            states=dict(square_avg="nu", grad_avg="mu", momentum_buffer="trace"),
            optional=("momentum",),
        ),
        "sgd": Dialect(
            preset=dict(),
            names=_LR | dict(momentum="momentum", nesterov="nesterov"),
            states=dict(momentum_buffer="trace"),
            optional=("momentum",),
        ),
        "adagrad": Dialect(
            preset=dict(eps=1e-7, eps_inside=True, initial_square_sum=0.1),
            names=_LR | dict(eps="eps", initial_square_sum="initial_accumulator_value"),
            states=dict(square_sum="sum_of_squares"),
        ),
        "adam": Dialect(  # and optax.amsgrad
            preset=dict(),
            names=_ADAM | dict(amsgrad="amsgrad"),
            states=_ADAM_STATES,
            implied=_AMSGRAD,
        ),
        "adamw": Dialect(
            preset=dict(weight_decay=1e-4),
            names=_ADAM | dict(weight_decay="weight_decay"),
            states=_ADAM_STATES,
            implied=_AMSGRAD,
        ),
        "yogi": Dialect(
            preset=dict(eps=1e-3, initial_grad_avg=1e-6, initial_square_avg=1e-6),
            names=_LR | _BETAS | dict(eps="eps"),
            states=dict(grad_avg="mu", square_avg="nu"),
        ),
        "adadelta": Dialect(
            preset=dict(rho=0.9, eps=1e-6),  # without a learning rate it climbs
            names=_LR | dict(rho="rho", eps="eps", weight_decay="weight_decay"),
            states=dict(square_avg="e_g", square_update_avg="e_x"),
        ),
        "lion": Dialect(
            preset=dict(weight_decay=1e-3, decoupled_weight_decay=True),
            names=_LR | _BETAS | dict(weight_decay="weight_decay"),
            states=dict(grad_avg="mu"),
        ),
    }
}
