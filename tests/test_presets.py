"""Every preset against the formula of its framework, written out; and how presets are asked for.

A formula is a generator of positions, in its framework's order of operations and under its defaults, with instep's
names.  Its signature lists the options that the framework has, and each is tried with each other.  `trajectories` says
what they are tried on and how close is close; test_peers.py puts some of these frameworks themselves beside them.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import instep
from trajectories import (
    SCALES,
    TOLERANCE,
    combinations,
    distance,
    gradients,
    learning_rates,
    scales,
    spell,
    start,
    walk_preset,
    without_gradient,
)


def torch(p, way, rho=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0, maximize=False):
    v = m = b = 0.0
    for g, lr in way:
        if maximize:
            g = -g
        g = g + weight_decay * p
        v = v * rho + (1 - rho) * g * g
        if centered:
            m = m + (1 - rho) * (g - m)
        b = b * momentum + g / (np.sqrt(v - m * m) + eps)
        p = p - lr * b
        yield p


def keras(p, way, rho=0.9, eps=1e-7, momentum=0.0, centered=False, weight_decay=0.0):
    v = m = b = 0.0
    for g, lr in way:
        p = p - p * weight_decay * lr
        v = rho * v + (1 - rho) * g * g
        if centered:
            m = rho * m + (1 - rho) * g
        b = momentum * b + (lr * g) / np.sqrt(v - m * m + eps)
        p = p - b
        yield p


def tf_keras_legacy(p, way, rho=0.9, eps=1e-7, momentum=0.0, centered=False):
    """In Python without momentum, by TensorFlow's kernel with it."""
    v = m = b = 0.0
    for g, lr in way:
        v = rho * v + (1 - rho) * g * g
        if centered:
            m = rho * m + (1 - rho) * g
        if momentum == 0:
            p = p - lr * g / (np.sqrt(v - m * m) + eps)
        else:
            b = b * momentum + (g * lr) / np.sqrt((v - m * m) + eps)
            p = p - b
        yield p


def tf1(p, way, rho=0.9, eps=1e-10, momentum=0.0, centered=False):
    v, m, b = 1.0, 0.0, 0.0
    for g, lr in way:
        v = v + (g * g - v) * (1 - rho)
        if centered:
            m = m + (g - m) * (1 - rho)
        b = b * momentum + (g * lr) / np.sqrt((v - m * m) + eps)
        p = p - b
        yield p


def timm(
    p,
    way,
    rho=0.9,
    eps=1e-10,
    momentum=0.0,
    lr_in_momentum=True,
    centered=False,
    weight_decay=0.0,
    decoupled_weight_decay=False,
):
    v, m, b = 1.0, 0.0, 0.0
    for g, lr in way:
        if decoupled_weight_decay:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        v = v + (g * g - v) * (1 - rho)
        if centered:
            m = m + (g - m) * (1 - rho)
        avg = np.sqrt(v - m * m + eps)
        if lr_in_momentum:
            b = momentum * b + lr * g / avg
            p = p - b
        else:
            b = momentum * b + g / avg
            p = p - lr * b
        yield p


def sb3(p, way, rho=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0):
    v, m, b = 1.0, 0.0, 0.0
    for g, lr in way:
        g = g + weight_decay * p
        v = v * rho + (1 - rho) * g * g
        if centered:
            m = m * rho + (1 - rho) * g
        b = b * momentum + g / np.sqrt(v - m * m + eps)
        p = p - lr * b
        yield p


def optax(
    p,
    way,
    rho=0.9,
    eps=1e-8,
    eps_inside=True,
    momentum=0.0,
    nesterov=False,
    centered=False,
    initial_square_avg=0.0,
    bias_correction=False,
):
    v, m, b = initial_square_avg, 0.0, 0.0
    for t, (g, lr) in enumerate(way, 1):
        v = (1 - rho) * g**2 + rho * v
        if centered:
            m = (1 - rho) * g + rho * m
        v_hat = v / (1 - rho**t) if bias_correction else v
        scale = 1 / np.sqrt(v_hat - m * m + eps) if eps_inside else 1 / (np.sqrt(v_hat - m * m) + eps)
        u = -lr * (scale * g)
        b = u + momentum * b
        p = p + (u + momentum * b if nesterov else b)
        yield p


def mlx(p, way, rho=0.99, eps=1e-8):
    v = 0.0
    for g, lr in way:
        v = rho * v + (1 - rho) * g * g
        p = p - lr * g / (np.sqrt(v) + eps)
        yield p


def paddle(p, way, rho=0.95, eps=1e-6, momentum=0.0, centered=False, weight_decay=0.0):
    v = m = b = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        v = rho * v + (1 - rho) * g * g
        if centered:
            m = rho * m + (1 - rho) * g
        b = momentum * b + lr * g / np.sqrt(v - m * m + eps)
        p = p - b
        yield p


def mxnet1(p, way, rho=0.9, eps=1e-8, weight_decay=0.0, centered=False, momentum=0.9):
    """`rmsprop_update`, which has no momentum, or centered `rmspropalex_update`."""
    n = m = delta = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        n = (1 - rho) * g * g + rho * n
        if centered:
            m = (1 - rho) * g + rho * m
            delta = momentum * delta - lr * g / np.sqrt(n - m * m + eps)
            p = p + delta
        else:
            p = p - lr * g / np.sqrt(n + eps)
        yield p


def mxnet2(p, way, rho=0.9, eps=1e-8, weight_decay=0.0, centered=False, momentum=0.9):
    n = m = delta = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        n = (1 - rho) * g * g + rho * n
        if centered:
            m = (1 - rho) * g + rho * m
            delta = momentum * delta - lr * g / np.sqrt(n - m * m + eps)
            p = p + delta
        else:
            p = p - lr * g / (np.sqrt(n) + eps)
        yield p


def chainer(p, way, rho=0.99, eps=1e-8, weight_decay=0.0):
    """Weight decay is the hook `WeightDecay`."""
    ms = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        ms = ms * rho
        ms = ms + (1 - rho) * g * g
        p = p - lr * g / (np.sqrt(ms) + eps)
        yield p


def graves(p, way, rho=0.95, eps=1e-4, momentum=0.9):
    n = m = delta = 0.0
    for g, lr in way:
        n = rho * n + (1 - rho) * g**2
        m = rho * m + (1 - rho) * g
        delta = momentum * delta - lr * g / np.sqrt(n - m**2 + eps)
        p = p + delta
        yield p


def dqn(p, way, rho=0.95, eps=0.01):
    v = m = 0.0
    for g, lr in way:
        m = rho * m + (1 - rho) * g
        v = rho * v + (1 - rho) * g**2
        p = p - lr * g / np.sqrt(v - m**2 + eps)
        yield p


def caffe(p, way, rho=0.99, eps=1e-8, weight_decay=0.0):
    h = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        h = (1 - rho) * g**2 + rho * h
        p = p - lr * (g / (h**0.5 + eps))
        yield p


def autograd(p, way, rho=0.9, eps=1e-8):
    avg = 1.0
    for g, lr in way:
        avg = avg * rho + g**2 * (1 - rho)
        p = p - lr * g / (np.sqrt(avg) + eps)
        yield p


def flux(p, way, rho=0.9, eps=1e-8, centered=False):
    quad = lin = 0.0
    for g, lr in way:
        quad = rho * quad + (1 - rho) * abs(g) ** 2
        if centered:
            lin = rho * lin + (1 - rho) * g
        p = p - g * lr / (np.sqrt(quad - abs(lin) ** 2) + eps)
        yield p


def burn(p, way, rho=0.99, eps=1e-5, momentum=0.9, centered=False, weight_decay=0.0):
    v = m = b = 0.0
    for g, lr in way:
        g = g + p * weight_decay
        v = v * rho + g * g * (1 - rho)
        if centered:
            m = m * rho + g * (1 - rho)
        b = b * momentum + g / (np.sqrt(v - m * m) + eps)
        p = p - b * lr
        yield p


def bitsandbytes(p, way, rho=0.99, eps=1e-8, weight_decay=0.0):
    s = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        s = s * rho + (1 - rho) * g * g
        p = p - lr * g / (np.sqrt(s) + eps)
        yield p


FORMULAS = {
    formula.__name__: formula
    for formula in (
        torch,
        keras,
        tf_keras_legacy,
        tf1,
        timm,
        sb3,
        optax,
        mlx,
        paddle,
        mxnet1,
        mxnet2,
        chainer,
        graves,
        dqn,
        caffe,
        autograd,
        flux,
        burn,
        bitsandbytes,
    )
}

LEARNING_RATES = dict(
    torch=1e-2,
    keras=1e-3,
    tf_keras_legacy=1e-3,
    timm=1e-2,
    sb3=1e-2,
    mxnet1=1e-3,
    mxnet2=1e-3,
    chainer=1e-2,
    graves=1e-4,
    dqn=2.5e-4,
    autograd=0.1,
    flux=1e-3,
    bitsandbytes=1e-2,
)

REFUSED = [
    ("caffe", dict(momentum=0.8), "refuses momentum"),
    ("bitsandbytes", dict(momentum=0.8), "ignores momentum"),
    ("bitsandbytes", dict(centered=True), "refuses centered"),
    ("bitsandbytes", dict(rho=0.0), "refuses rho=0"),
    ("mxnet1", dict(momentum=0.8), "ignores momentum unless centered"),
    ("mxnet2", dict(momentum=0.8), "ignores momentum unless centered"),
    ("mxnet2", dict(momentum=0.8, centered=False), "ignores momentum unless centered"),
]


def knows(name, options):
    """The framework makes something of these options."""
    return not (name in ("mxnet1", "mxnet2") and "momentum" in options and "centered" not in options)


CONFIGURATIONS = [
    (name, options)
    for name, formula in FORMULAS.items()
    for options in combinations(list(inspect.signature(formula).parameters)[2:])
    if knows(name, options)
]


def param():
    return [np.zeros(3)]


def test_every_preset_has_a_formula():
    assert list(instep.presets()) == list(FORMULAS)


@pytest.mark.parametrize(("name", "options"), CONFIGURATIONS, ids=spell)
def test_preset_walks_as_its_formula(name, options):
    scale = scales(options)
    begin, grads, rates = start(scale), gradients(scale), learning_rates(1e-2)
    positions = FORMULAS[name](begin, zip(grads, rates, strict=True), **options)
    assert distance(walk_preset(name, begin, grads, rates, **options), np.array([begin, *positions])) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name, options in CONFIGURATIONS if options == dict(weight_decay=0.1)])
def test_decay_moves_without_a_gradient(name):
    begin, grads, rates = without_gradient()
    walk = np.array([begin, *FORMULAS[name](begin, zip(grads, rates, strict=True), weight_decay=0.1)])
    assert (np.abs(walk[-1]) < 1).all()
    assert distance(walk_preset(name, begin, grads, rates, weight_decay=0.1), walk) <= TOLERANCE


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_preset_walks_at_its_own_learning_rate(name):
    begin, grads = start(SCALES), gradients(SCALES)
    positions = FORMULAS[name](begin, [(grad, LEARNING_RATES[name]) for grad in grads])
    assert distance(walk_preset(name, begin, grads, None), np.array([begin, *positions])) <= TOLERANCE


@pytest.mark.parametrize("name", FORMULAS)
def test_presets_lists_what_preset_makes(name):
    listed = instep.presets()[name]
    assert listed.get("lr") == LEARNING_RATES.get(name)
    assert instep.RMSprop.preset(name, param(), lr=0.5).options == listed | dict(lr=0.5)


@pytest.mark.parametrize("name", FORMULAS)
def test_lr_is_needed_where_the_framework_has_no_default(name):
    if name in LEARNING_RATES:
        assert instep.RMSprop.preset(name, param()).lr == LEARNING_RATES[name]
    else:
        with pytest.raises(TypeError, match=f"preset '{name}' needs lr"):
            instep.RMSprop.preset(name, param())


@pytest.mark.parametrize("name", FORMULAS)
def test_every_option_can_be_overridden(name):
    listed = instep.presets()[name]
    others = dict(lr=0.5, rho=0.5, eps=0.25, weight_decay=0.125, initial_square_avg=2.0)
    others |= {
        flag: not listed[flag] for flag in ("eps_inside", "lr_in_momentum", "decoupled_weight_decay", "maximize")
    }
    assert instep.RMSprop.preset(name, param(), **others).options == listed | others


def test_presets_are_the_caller_s_to_change():
    instep.presets()["torch"]["rho"] = 0.5
    assert instep.presets()["torch"]["rho"] == 0.99


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"there is no preset 'pytorch'; there are torch, keras, .*bitsandbytes$"):
        instep.RMSprop.preset("pytorch", param())
    with pytest.raises(TypeError, match="alpha"):
        instep.RMSprop.preset("torch", param(), alpha=0.9)


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_what_the_framework_refuses_or_ignores_is_refused(name, options, message):
    with pytest.raises(ValueError, match=f"preset '{name}': the framework {message}"):
        instep.RMSprop.preset(name, param(), lr=0.1, **options)


@pytest.mark.parametrize("name", sorted({name for name, _, _ in REFUSED}))
def test_what_is_refused_may_be_said_to_be_off(name):
    options = instep.RMSprop.preset(name, param(), lr=0.1, momentum=0.0, centered=False).options
    assert options == instep.presets()[name] | dict(lr=0.1)


def test_tf_keras_legacy_moves_eps_with_momentum():
    preset = instep.RMSprop.preset
    assert not preset("tf_keras_legacy", param()).eps_inside
    assert not preset("tf_keras_legacy", param(), momentum=0.0).eps_inside
    assert preset("tf_keras_legacy", param(), momentum=0.9).eps_inside
    assert not preset("tf_keras_legacy", param(), momentum=0.9, eps_inside=False).eps_inside


@pytest.mark.parametrize("name", ["mxnet1", "mxnet2"])
def test_centered_mxnet_is_graves(name):
    graves = dict(centered=True, eps_inside=True, momentum=0.9, lr_in_momentum=True)
    assert instep.RMSprop.preset(name, param(), centered=True).options == instep.presets()[name] | graves
    assert instep.RMSprop.preset(name, param(), centered=True, momentum=0.0).momentum == 0
    assert not instep.RMSprop.preset(name, param(), centered=True, eps_inside=False).eps_inside
