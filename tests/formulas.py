"""What every preset must compute: the formula of each framework, written out.

A formula is a generator of positions, in its framework's order of operations and under its defaults, with instep's
names.  Its signature lists the options that the framework has.  It is called ``<framework>_<rule>``.
"""

from __future__ import annotations

import numpy as np

# ---- RMSprop --------------------------------------------------------------------------------------------------------


def torch_rmsprop(p, way, rho=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0, maximize=False):
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


def keras_rmsprop(p, way, rho=0.9, eps=1e-7, momentum=0.0, centered=False, weight_decay=0.0):
    v = m = b = 0.0
    for g, lr in way:
        p = p - p * weight_decay * lr
        v = rho * v + (1 - rho) * g * g
        if centered:
            m = rho * m + (1 - rho) * g
        b = momentum * b + (lr * g) / np.sqrt(v - m * m + eps)
        p = p - b
        yield p


def tf_keras_legacy_rmsprop(p, way, rho=0.9, eps=1e-7, momentum=0.0, centered=False):
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


def tf1_rmsprop(p, way, rho=0.9, eps=1e-10, momentum=0.0, centered=False):
    v, m, b = 1.0, 0.0, 0.0
    for g, lr in way:
        v = v + (g * g - v) * (1 - rho)
        if centered:
            m = m + (g - m) * (1 - rho)
        b = b * momentum + (g * lr) / np.sqrt((v - m * m) + eps)
        p = p - b
        yield p


def timm_rmsprop(
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


def sb3_rmsprop(p, way, rho=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0):
    v, m, b = 1.0, 0.0, 0.0
    for g, lr in way:
        g = g + weight_decay * p
        v = v * rho + (1 - rho) * g * g
        if centered:
            m = m * rho + (1 - rho) * g
        b = b * momentum + g / np.sqrt(v - m * m + eps)
        p = p - lr * b
        yield p


def optax_rmsprop(
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


def mlx_rmsprop(p, way, rho=0.99, eps=1e-8):
    v = 0.0
    for g, lr in way:
        v = rho * v + (1 - rho) * g * g
        p = p - lr * g / (np.sqrt(v) + eps)
        yield p


def paddle_rmsprop(p, way, rho=0.95, eps=1e-6, momentum=0.0, centered=False, weight_decay=0.0):
    v = m = b = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        v = rho * v + (1 - rho) * g * g
        if centered:
            m = rho * m + (1 - rho) * g
        b = momentum * b + lr * g / np.sqrt(v - m * m + eps)
        p = p - b
        yield p


def mxnet1_rmsprop(p, way, rho=0.9, eps=1e-8, weight_decay=0.0, centered=False, momentum=0.9):
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


def mxnet2_rmsprop(p, way, rho=0.9, eps=1e-8, weight_decay=0.0, centered=False, momentum=0.9):
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


def chainer_rmsprop(p, way, rho=0.99, eps=1e-8, weight_decay=0.0):
    """Weight decay is the hook `WeightDecay`."""
    ms = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        ms = ms * rho
        ms = ms + (1 - rho) * g * g
        p = p - lr * g / (np.sqrt(ms) + eps)
        yield p


def graves_rmsprop(p, way, rho=0.95, eps=1e-4, momentum=0.9):
    n = m = delta = 0.0
    for g, lr in way:
        n = rho * n + (1 - rho) * g**2
        m = rho * m + (1 - rho) * g
        delta = momentum * delta - lr * g / np.sqrt(n - m**2 + eps)
        p = p + delta
        yield p


def dqn_rmsprop(p, way, rho=0.95, eps=0.01):
    v = m = 0.0
    for g, lr in way:
        m = rho * m + (1 - rho) * g
        v = rho * v + (1 - rho) * g**2
        p = p - lr * g / np.sqrt(v - m**2 + eps)
        yield p


def caffe_rmsprop(p, way, rho=0.99, eps=1e-8, weight_decay=0.0):
    h = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        h = (1 - rho) * g**2 + rho * h
        p = p - lr * (g / (h**0.5 + eps))
        yield p


def autograd_rmsprop(p, way, rho=0.9, eps=1e-8):
    avg = 1.0
    for g, lr in way:
        avg = avg * rho + g**2 * (1 - rho)
        p = p - lr * g / (np.sqrt(avg) + eps)
        yield p


def flux_rmsprop(p, way, rho=0.9, eps=1e-8, centered=False):
    quad = lin = 0.0
    for g, lr in way:
        quad = rho * quad + (1 - rho) * abs(g) ** 2
        if centered:
            lin = rho * lin + (1 - rho) * g
        p = p - g * lr / (np.sqrt(quad - abs(lin) ** 2) + eps)
        yield p


def burn_rmsprop(p, way, rho=0.99, eps=1e-5, momentum=0.9, centered=False, weight_decay=0.0):
    v = m = b = 0.0
    for g, lr in way:
        g = g + p * weight_decay
        v = v * rho + g * g * (1 - rho)
        if centered:
            m = m * rho + g * (1 - rho)
        b = b * momentum + g / (np.sqrt(v - m * m) + eps)
        p = p - b * lr
        yield p


def bitsandbytes_rmsprop(p, way, rho=0.99, eps=1e-8, weight_decay=0.0):
    s = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        s = s * rho + (1 - rho) * g * g
        p = p - lr * g / (np.sqrt(s) + eps)
        yield p


# ---- SGD ------------------------------------------------------------------------------------------------------------


def torch_sgd(p, way, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0, maximize=False):
    b = None
    for g, lr in way:
        if maximize:
            g = -g
        g = g + weight_decay * p
        b = g if b is None else b * momentum + (1 - dampening) * g
        p = p - lr * (g + momentum * b if nesterov else b)
        yield p


def keras_sgd(p, way, momentum=0.0, nesterov=False, weight_decay=0.0):
    b = 0.0
    for g, lr in way:
        p = p - p * weight_decay * lr
        b = b * momentum - g * lr
        p = p + (b * momentum - g * lr if nesterov else b)
        yield p


def optax_sgd(p, way, momentum=0.0, nesterov=False):
    b = 0.0
    for g, lr in way:
        b = g + momentum * b
        p = p + -lr * (g + momentum * b if nesterov else b)
        yield p


def mlx_sgd(p, way, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    v = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        v = momentum * v + (1 - dampening) * g
        p = p - lr * (g + momentum * v if nesterov else v)
        yield p


def sklearn_sgd(p, way, momentum=0.9, nesterov=True):
    velocity = 0.0
    for g, lr in way:
        velocity = momentum * velocity - lr * g
        p = p + (momentum * velocity - lr * g if nesterov else velocity)
        yield p


# ---- Adagrad --------------------------------------------------------------------------------------------------------


def torch_adagrad(p, way, lr_decay=0.0, eps=1e-10, initial_square_sum=0.0, weight_decay=0.0, maximize=False):
    s = initial_square_sum
    for t, (g, lr) in enumerate(way, 1):
        if maximize:
            g = -g
        g = g + weight_decay * p
        s = s + g * g
        p = p - lr / (1 + (t - 1) * lr_decay) * (g / (np.sqrt(s) + eps))
        yield p


def keras_adagrad(p, way, eps=1e-7, initial_square_sum=0.1, weight_decay=0.0):
    s = initial_square_sum
    for g, lr in way:
        p = p - p * weight_decay * lr
        s = s + g**2
        p = p - lr * g / np.sqrt(s + eps)
        yield p


def optax_adagrad(p, way, eps=1e-7, initial_square_sum=0.1):
    s = initial_square_sum
    for g, lr in way:
        s = g**2 + s
        p = p + -lr * (1 / np.sqrt(s + eps) * g)
        yield p


def mlx_adagrad(p, way, eps=1e-8):
    v = 0.0
    for g, lr in way:
        v = v + g**2
        p = p - lr * g / (np.sqrt(v) + eps)
        yield p


# ---- Adam and AdamW -------------------------------------------------------------------------------------------------


def torch_adam(
    p,
    way,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    amsgrad=False,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    maximize=False,
):
    m = v = largest = 0.0
    for t, (g, lr) in enumerate(way, 1):
        if maximize:
            g = -g
        if decoupled_weight_decay:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = m + (1 - beta1) * (g - m)
        v = v * beta2 + (1 - beta2) * g * g
        largest = np.maximum(largest, v)
        denominator = np.sqrt(largest if amsgrad else v) / np.sqrt(1 - beta2**t) + eps
        p = p - lr / (1 - beta1**t) * (m / denominator)
        yield p


def torch_adamw(p, way, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False, weight_decay=1e-2, maximize=False):
    return torch_adam(p, way, beta1, beta2, eps, amsgrad, weight_decay, True, maximize)


def keras_adam(p, way, beta1=0.9, beta2=0.999, eps=1e-7, amsgrad=False, weight_decay=0.0):
    m = v = largest = 0.0
    for t, (g, lr) in enumerate(way, 1):
        p = p - p * weight_decay * lr
        alpha = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        m = m + (g - m) * (1 - beta1)
        v = v + (g**2 - v) * (1 - beta2)
        largest = np.maximum(largest, v)
        p = p - m * alpha / (np.sqrt(largest if amsgrad else v) + eps)
        yield p


def keras_adamw(p, way, beta1=0.9, beta2=0.999, eps=1e-7, amsgrad=False, weight_decay=4e-3):
    return keras_adam(p, way, beta1, beta2, eps, amsgrad, weight_decay)


def optax_adam(p, way, beta1=0.9, beta2=0.999, eps=1e-8, eps_root=0.0, nesterov=False, amsgrad=False):
    """`optax.adam` and `optax.amsgrad`."""
    return optax_adamw(p, way, beta1, beta2, eps, eps_root, nesterov, amsgrad, 0.0)


def optax_adamw(
    p, way, beta1=0.9, beta2=0.999, eps=1e-8, eps_root=0.0, nesterov=False, amsgrad=False, weight_decay=1e-4
):
    """`optax.adamw`, and the chain that it is with `optax.scale_by_amsgrad` at its head."""
    mu = nu = largest = 0.0
    for t, (g, lr) in enumerate(way, 1):
        mu = (1 - beta1) * g + beta1 * mu
        nu = (1 - beta2) * g**2 + beta2 * nu
        if nesterov:
            mu_hat = beta1 * (mu / (1 - beta1 ** (t + 1))) + (1 - beta1) * (g / (1 - beta1**t))
        else:
            mu_hat = mu / (1 - beta1**t)
        nu_hat = nu / (1 - beta2**t)
        largest = np.maximum(largest, nu_hat)
        update = mu_hat / (np.sqrt((largest if amsgrad else nu_hat) + eps_root) + eps)
        p = p + -lr * (update + weight_decay * p)
        yield p


def mlx_adam(p, way, beta1=0.9, beta2=0.999, eps=1e-8, bias_correction=False):
    return mlx_adamw(p, way, beta1, beta2, eps, bias_correction, 0.0)


def mlx_adamw(p, way, beta1=0.9, beta2=0.999, eps=1e-8, bias_correction=False, weight_decay=1e-2):
    m = v = 0.0
    for t, (g, lr) in enumerate(way, 1):
        p = p * (1 - lr * weight_decay)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        if bias_correction:
            p = p - lr / (1 - beta1**t) * m / (np.sqrt(v) * (1 / np.sqrt(1 - beta2**t)) + eps)
        else:
            p = p - lr * m / (np.sqrt(v) + eps)
        yield p


def sklearn_adam(p, way, beta1=0.9, beta2=0.999, eps=1e-8):
    m = v = 0.0
    for t, (g, lr) in enumerate(way, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p = p + -(lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)) * m / (np.sqrt(v) + eps)
        yield p


# ---- the others -----------------------------------------------------------------------------------------------------


def optax_yogi(p, way, beta1=0.9, beta2=0.999, eps=1e-3):
    mu = nu = 1e-6
    for t, (g, lr) in enumerate(way, 1):
        mu = (1 - beta1) * g + beta1 * mu
        nu = nu - (1 - beta2) * np.sign(nu - g**2) * g**2
        p = p + -lr * (mu / (1 - beta1**t) / (np.sqrt(nu / (1 - beta2**t)) + eps))
        yield p


def torch_adadelta(p, way, rho=0.9, eps=1e-6, weight_decay=0.0, maximize=False):
    v = d = 0.0
    for g, lr in way:
        if maximize:
            g = -g
        g = g + weight_decay * p
        v = v * rho + (1 - rho) * g * g
        delta = np.sqrt(d + eps) / np.sqrt(v + eps) * g
        d = d * rho + (1 - rho) * delta * delta
        p = p - lr * delta
        yield p


def keras_adadelta(p, way, rho=0.95, eps=1e-7, weight_decay=0.0):
    v = d = 0.0
    for g, lr in way:
        p = p - p * weight_decay * lr
        v = rho * v + (1 - rho) * g**2
        delta = -(np.sqrt(d + eps) * g / np.sqrt(v + eps))
        d = rho * d + (1 - rho) * delta**2
        p = p + lr * delta
        yield p


def optax_adadelta(p, way, rho=0.9, eps=1e-6, weight_decay=0.0):
    e_g = e_x = 0.0
    for g, lr in way:
        g = g + weight_decay * p
        e_g = (1 - rho) * g**2 + rho * e_g
        update = np.sqrt(e_x + eps) / np.sqrt(e_g + eps) * g
        e_x = (1 - rho) * update**2 + rho * e_x
        p = p + -lr * update
        yield p


def mlx_adadelta(p, way, rho=0.9, eps=1e-6):
    return optax_adadelta(p, way, rho, eps)


def torch_rprop(p, way, eta_minus=0.5, eta_plus=1.2, step_min=1e-6, step_max=50.0, maximize=False):
    prev = step = None
    for g, lr in way:
        if step is None:
            prev, step = 0.0, lr
        if maximize:
            g = -g
        sign = np.sign(g * prev)
        step = np.clip(step * np.where(sign > 0, eta_plus, np.where(sign < 0, eta_minus, 1)), step_min, step_max)
        g = np.where(sign < 0, 0, g)
        p = p - np.sign(g) * step
        prev = g
        yield p


def keras_lion(p, way, beta1=0.9, beta2=0.99, weight_decay=0.0):
    m = 0.0
    for g, lr in way:
        p = p - p * weight_decay * lr
        p = p - lr * np.sign(m * beta1 + g * (1 - beta1))
        m = m * beta2 + g * (1 - beta2)
        yield p


def optax_lion(p, way, beta1=0.9, beta2=0.99, weight_decay=1e-3):
    mu = 0.0
    for g, lr in way:
        p = p + -lr * (np.sign((1 - beta1) * g + beta1 * mu) + weight_decay * p)
        mu = (1 - beta2) * g + beta2 * mu
        yield p


def mlx_lion(p, way, beta1=0.9, beta2=0.99, weight_decay=0.0):
    m = 0.0
    for g, lr in way:
        c = beta1 * m + (1 - beta1) * g
        m = beta2 * m + (1 - beta2) * g
        p = (1 - lr * weight_decay) * p
        p = p - lr * np.sign(c)
        yield p


FORMULAS = {tuple(name.rsplit("_", 1)): formula for name, formula in list(vars().items()) if callable(formula)}
