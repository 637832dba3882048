"""RMSprop as the frameworks spell it: what each one means by its defaults."""

from __future__ import annotations

from typing import Any

from ._core import Options

# lr is absent where the framework demands one.
_PRESETS: dict[str, dict[str, Any]] = {
    # torch.optim.RMSprop
    "torch": dict(lr=1e-2, rho=0.99, eps=1e-8),
    # keras.optimizers.RMSprop, version 3; also tf_keras 2.11 and newer
    "keras": dict(lr=1e-3, rho=0.9, eps=1e-7, eps_inside=True, lr_in_momentum=True, decoupled_weight_decay=True),
    # tf_keras.optimizers.legacy.RMSprop: eps moves inside the root when momentum is used
    "tf_keras_legacy": dict(lr=1e-3, rho=0.9, eps=1e-7, lr_in_momentum=True),
    # tf.compat.v1.train.RMSPropOptimizer
    "tf1": dict(rho=0.9, eps=1e-10, eps_inside=True, lr_in_momentum=True, initial_square_avg=1.0),
    # timm.optim.RMSpropTF
    "timm": dict(lr=1e-2, rho=0.9, eps=1e-10, eps_inside=True, lr_in_momentum=True, initial_square_avg=1.0),
    # stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike
    "sb3": dict(lr=1e-2, rho=0.99, eps=1e-8, eps_inside=True, initial_square_avg=1.0),
    # optax.rmsprop
    "optax": dict(rho=0.9, eps=1e-8, eps_inside=True, lr_in_momentum=True),
    # mlx.optimizers.RMSprop
    "mlx": dict(rho=0.99, eps=1e-8),
    # paddle.optimizer.RMSProp
    "paddle": dict(rho=0.95, eps=1e-6, eps_inside=True, lr_in_momentum=True),
    # mxnet.optimizer.RMSProp, 1.9 and 2.0: eps moved outside the root; centered is Graves' version
    "mxnet1": dict(lr=1e-3, rho=0.9, eps=1e-8, eps_inside=True),
    "mxnet2": dict(lr=1e-3, rho=0.9, eps=1e-8),
    # chainer.optimizers.RMSprop
    "chainer": dict(lr=1e-2, rho=0.99, eps=1e-8),
    # Graves, arXiv:1308.0850, equations 38 to 45; chainer.optimizers.RMSpropGraves
    "graves": dict(lr=1e-4, rho=0.95, eps=1e-4, eps_inside=True, momentum=0.9, lr_in_momentum=True, centered=True),
    # DeepMind's DQN (Mnih et al., Nature, 2015)
    "dqn": dict(lr=2.5e-4, rho=0.95, eps=1e-2, eps_inside=True, centered=True),
    # caffe's RMSPropSolver
    "caffe": dict(rho=0.99, eps=1e-8),
    # autograd.misc.optimizers.rmsprop
    "autograd": dict(lr=0.1, rho=0.9, eps=1e-8, initial_square_avg=1.0),
    # Flux, Optimisers.RMSProp
    "flux": dict(lr=1e-3, rho=0.9, eps=1e-8),
    # burn::optim::RmsProp
    "burn": dict(rho=0.99, eps=1e-5, momentum=0.9),
    # bitsandbytes.optim.RMSprop
    "bitsandbytes": dict(lr=1e-2, rho=0.99, eps=1e-8),
}


def presets() -> dict[str, dict[str, Any]]:
    """The presets of `RMSprop.preset`: every option's value, by the name of the framework.

    ``lr`` is missing from those whose framework has no default for it.  Two depend on what they are overridden with:
    ``tf_keras_legacy`` has `eps_inside` exactly when it has momentum, and centered ``mxnet1`` and ``mxnet2`` have
    Graves' ``eps_inside=True, momentum=0.9, lr_in_momentum=True``.

    Returns
    -------
    dict
        A new one, yours to change.
    """
    defaults = Options("rmsprop").values()
    del defaults["lr"]
    return {name: defaults | preset for name, preset in _PRESETS.items()}


def preset_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The preset's options, overridden."""
    if name not in _PRESETS:
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(_PRESETS)}")
    _check_dialect(name, options)
    preset = _PRESETS[name]
    if name == "tf_keras_legacy" and options.get("momentum"):
        preset = preset | dict(eps_inside=True)
    elif name in ("mxnet1", "mxnet2") and options.get("centered"):
        preset = preset | dict(eps_inside=True, momentum=0.9, lr_in_momentum=True)
    merged = preset | options
    if "lr" not in merged:
        raise TypeError(f"preset {name!r} needs lr: the framework has no default for it")
    return merged


def _check_dialect(name: str, options: dict[str, Any]) -> None:
    """Refuse what the framework refuses, and what it takes and ignores."""
    if name in ("bitsandbytes", "caffe") and options.get("momentum"):
        verb = "ignores" if name == "bitsandbytes" else "refuses"
        raise ValueError(f"preset {name!r}: the framework {verb} momentum in RMSprop")
    if name == "bitsandbytes" and options.get("centered"):
        raise ValueError("preset 'bitsandbytes': the framework refuses centered")
    if name == "bitsandbytes" and options.get("rho") == 0:
        raise ValueError("preset 'bitsandbytes': the framework refuses rho=0")
    if name in ("mxnet1", "mxnet2") and options.get("momentum") and not options.get("centered"):
        raise ValueError(f"preset {name!r}: the framework ignores momentum unless centered")
