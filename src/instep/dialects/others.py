"""The frameworks that are presets alone: no runs move to or from them."""

from __future__ import annotations

from typing import Any

from . import Dialect, Dialects, Name

_TF: dict[str, Any] = dict(eps_inside=True, lr_in_momentum=True)
_GRAVES: dict[str, Any] = dict(eps_inside=True, momentum=0.9, lr_in_momentum=True)
_TORCH_STATES = dict(square_avg="square_avg", momentum_buffer="momentum_buffer", grad_avg="grad_avg")
_MLX_ADAM: dict[str, Name] = dict(
    lr="learning_rate", beta1=("betas", 0), beta2=("betas", 1), eps="eps", bias_correction="bias_correction"
)


def _mxnet(rho: str, momentum: str, **options: Any) -> Dialect:
    return Dialect(
        dict(lr=1e-3, rho=0.9, eps=1e-8, **options),
        dict(lr="learning_rate", rho=rho, eps="epsilon", weight_decay="wd", centered="centered", momentum=momentum),
        implied={("centered", True): _GRAVES},  # rmspropalex
        refused={("momentum", True): "ignores momentum unless centered"},
    )


DIALECTS: Dialects = {
    # tf_keras.optimizers.legacy.RMSprop: eps moves inside the root when momentum is used
    "tf_keras_legacy": {
        "rmsprop": Dialect(
            dict(lr=1e-3, rho=0.9, eps=1e-7, lr_in_momentum=True),
            dict(lr="learning_rate", rho="rho", eps="epsilon", momentum="momentum", centered="centered"),
            implied={("momentum", True): dict(eps_inside=True)},
        )
    },
    # tf.compat.v1.train.RMSPropOptimizer
    "tf1": {
        "rmsprop": Dialect(
            dict(rho=0.9, eps=1e-10, initial_square_avg=1.0) | _TF,
            dict(lr="learning_rate", rho="decay", eps="epsilon", momentum="momentum", centered="centered"),
        )
    },
    # timm.optim.RMSpropTF
    "timm": {
        "rmsprop": Dialect(
            dict(lr=1e-2, rho=0.9, eps=1e-10, initial_square_avg=1.0) | _TF,
            dict(lr="lr", rho="alpha", eps="eps", momentum="momentum", centered="centered")
            | dict(
                lr_in_momentum="lr_in_momentum", weight_decay="weight_decay", decoupled_weight_decay="decoupled_decay"
            ),
            _TORCH_STATES,
        )
    },
    # stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike
    "sb3": {
        "rmsprop": Dialect(
            dict(lr=1e-2, rho=0.99, eps=1e-8, eps_inside=True, initial_square_avg=1.0),
            dict(lr="lr", rho="alpha", eps="eps", momentum="momentum", centered="centered")
            | dict(weight_decay="weight_decay"),
            _TORCH_STATES,
        )
    },
    # mlx.optimizers; its Adam corrects no bias unless asked, its SGD dampens the first gradient too
    "mlx": {
        "rmsprop": Dialect(dict(rho=0.99, eps=1e-8), dict(lr="learning_rate", rho="alpha", eps="eps")),
        "sgd": Dialect(
            dict(dampen_first=True),
            dict(lr="learning_rate", momentum="momentum", dampening="dampening", nesterov="nesterov")
            | dict(weight_decay="weight_decay"),
        ),
        "adagrad": Dialect(dict(eps=1e-8), dict(lr="learning_rate", eps="eps")),
        "adam": Dialect(dict(bias_correction=False), _MLX_ADAM),
        "adamw": Dialect(dict(weight_decay=1e-2, bias_correction=False), _MLX_ADAM | dict(weight_decay="weight_decay")),
        "adadelta": Dialect(dict(rho=0.9, eps=1e-6), dict(lr="learning_rate", rho="rho", eps="eps")),
        "lion": Dialect(
            dict(decoupled_weight_decay=True),
            dict(lr="learning_rate", beta1=("betas", 0), beta2=("betas", 1), weight_decay="weight_decay"),
        ),
    },
    # sklearn.neural_network.MLPClassifier and MLPRegressor
    "sklearn": {
        "sgd": Dialect(
            dict(lr=1e-3, momentum=0.9, nesterov=True, lr_in_momentum=True),
            dict(lr="learning_rate_init", momentum="momentum", nesterov="nesterovs_momentum"),
            implied={("momentum", False): dict(nesterov=False)},
        ),
        "adam": Dialect(
            dict(lr=1e-3, eps_hat=True),
            dict(lr="learning_rate_init", beta1="beta_1", beta2="beta_2", eps="epsilon"),
        ),
    },
    # paddle.optimizer.RMSProp
    "paddle": {
        "rmsprop": Dialect(
            dict(rho=0.95, eps=1e-6) | _TF,
            dict(lr="learning_rate", rho="rho", eps="epsilon", momentum="momentum", centered="centered")
            | dict(weight_decay="weight_decay"),
        )
    },
    # mxnet.optimizer.RMSProp, 1.9 and 2.0: eps moved outside the root, and rho and momentum got their names
    "mxnet1": {"rmsprop": _mxnet("gamma1", "gamma2", eps_inside=True)},
    "mxnet2": {"rmsprop": _mxnet("rho", "momentum")},
    # chainer.optimizers.RMSprop
    "chainer": {"rmsprop": Dialect(dict(lr=1e-2, rho=0.99, eps=1e-8), dict(lr="lr", rho="alpha", eps="eps"))},
    # Graves, arXiv:1308.0850, equations 38 to 45; chainer.optimizers.RMSpropGraves
    "graves": {
        "rmsprop": Dialect(
            dict(lr=1e-4, rho=0.95, eps=1e-4, centered=True) | _GRAVES,
            dict(lr="lr", rho="alpha", eps="eps", momentum="momentum"),
        )
    },
    # DeepMind's DQN (Mnih et al., Nature, 2015)
    "dqn": {"rmsprop": Dialect(dict(lr=2.5e-4, rho=0.95, eps=1e-2, eps_inside=True, centered=True), dict())},
    # caffe's RMSPropSolver
    "caffe": {
        "rmsprop": Dialect(
            dict(rho=0.99, eps=1e-8),
            dict(lr="base_lr", rho="rms_decay", eps="delta", weight_decay="weight_decay"),
            refused={("momentum", True): "refuses momentum"},
        )
    },
    # autograd.misc.optimizers.rmsprop
    "autograd": {
        "rmsprop": Dialect(
            dict(lr=0.1, rho=0.9, eps=1e-8, initial_square_avg=1.0), dict(lr="step_size", rho="gamma", eps="eps")
        )
    },
    # Flux, Optimisers.RMSProp
    "flux": {
        "rmsprop": Dialect(
            dict(lr=1e-3, rho=0.9, eps=1e-8), dict(lr="eta", rho="rho", eps="epsilon", centered="centred")
        )
    },
    # burn::optim::RmsProp
    "burn": {
        "rmsprop": Dialect(
            dict(rho=0.99, eps=1e-5, momentum=0.9),
            dict(rho="alpha", eps="epsilon", momentum="momentum", centered="centered"),
        )
    },
    # bitsandbytes.optim.RMSprop
    "bitsandbytes": {
        "rmsprop": Dialect(
            dict(lr=1e-2, rho=0.99, eps=1e-8),
            dict(lr="lr", rho="alpha", eps="eps", weight_decay="weight_decay"),
            refused={
                ("momentum", True): "ignores momentum",
                ("centered", True): "refuses centered",
                ("rho", False): "refuses rho=0",
            },
        )
    },
}
