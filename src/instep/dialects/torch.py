"""torch.optim."""

from __future__ import annotations

from . import Dialect, Dialects, Name

_BETAS: dict[str, Name] = dict(beta1=("betas", 0), beta2=("betas", 1))
_COMMON: dict[str, Name] = dict(lr="lr", weight_decay="weight_decay", maximize="maximize")
_ADAM: dict[str, Name] = _COMMON | _BETAS | dict(eps="eps", amsgrad="amsgrad")
_ADAM_STATES = dict(grad_avg="exp_avg", square_avg="exp_avg_sq", max_square_avg="max_exp_avg_sq")

DIALECTS: Dialects = {
    "torch": {
        "rmsprop": Dialect(
            preset=dict(lr=1e-2, rho=0.99, eps=1e-8),
            names=_COMMON | dict(rho="alpha", eps="eps", momentum="momentum", centered="centered"),
            states=dict(square_avg="square_avg", grad_avg="grad_avg", momentum_buffer="momentum_buffer"),
        ),
        "sgd": Dialect(
            preset=dict(lr=1e-3),
            names=_COMMON | dict(momentum="momentum", dampening="dampening", nesterov="nesterov"),
            states=dict(momentum_buffer="momentum_buffer"),
        ),
        "adagrad": Dialect(
            preset=dict(lr=1e-2, eps=1e-10),
            names=_COMMON | dict(lr_decay="lr_decay", eps="eps", initial_square_sum="initial_accumulator_value"),
            states=dict(square_sum="sum"),
        ),
        "adam": Dialect(
            preset=dict(lr=1e-3),
            names=_ADAM | dict(decoupled_weight_decay="decoupled_weight_decay"),
            states=_ADAM_STATES,
        ),
        "adamw": Dialect(preset=dict(lr=1e-3, weight_decay=1e-2), names=_ADAM, states=_ADAM_STATES),
        "adadelta": Dialect(
            preset=dict(lr=1.0, rho=0.9, eps=1e-6),
            names=_COMMON | dict(rho="rho", eps="eps"),
            states=dict(square_avg="square_avg", square_update_avg="acc_delta"),
        ),
        "rprop": Dialect(
            preset=dict(lr=1e-2),
            names=dict(
                lr="lr",
                eta_minus=("etas", 0),
                eta_plus=("etas", 1),
                step_min=("step_sizes", 0),
                step_max=("step_sizes", 1),
                maximize="maximize",
            ),
            states=dict(step_size="step_size", prev_grad="prev"),
        ),
    }
}
