"""It learns: the formula's numbers, a line and the handwritten digits."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import instep
from instep.demo import digits, regression
from instep.schedules import constant, cosine
from trials import CLASSES

GRADS = ((0.5, 0.0), (0.4, 0.3), (0.3, 0.0), (0.5, 0.2), (0.4, 0.0))
OPTIONS = dict(lr=0.1, eps=1e-8, eps_inside=False)
# w by hand: v1 = 0.1 * 0.5 ** 2 = 0.025, so that w1 = -0.1 * 0.5 / sqrt(0.025) = -0.3162 after the first step.
AFTER_EACH_STEP = ((-0.3162, 0), (-0.5201, -0.3162), (-0.6637, -0.3162), (-0.8609, -0.5045), (-1.0081, -0.5045))
AFTER_FIVE_STEPS = {0.5: (-0.5488, -0.2546), 0.9: AFTER_EACH_STEP[-1], 0.99: (-3.0593, -1.5586)}


def walk_with_class(rho, dtype):
    w = np.zeros(2, dtype)
    opt = instep.RMSprop(w, rho=rho, **OPTIONS)
    for grad in GRADS:
        opt.step(np.array(grad, dtype))
        yield w.copy()


def walk_with(function, rho, dtype):
    w, square_avg = np.zeros((2, 2), dtype)
    for grad in GRADS:
        function(w, np.array(grad, dtype), square_avg, rho=rho, **OPTIONS)
        yield w.copy()


WALKS = {
    "RMSprop": walk_with_class,
    "rmsprop": lambda rho, dtype: walk_with(instep.rmsprop, rho, dtype),
    "reference.rmsprop": lambda rho, dtype: walk_with(instep.reference.rmsprop, rho, dtype),
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_formula_step_by_step(walk, dtype):
    np.testing.assert_allclose(list(walk(0.9, dtype)), AFTER_EACH_STEP, rtol=0, atol=0.5001e-4)


@pytest.mark.parametrize("rho", AFTER_FIVE_STEPS)
@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_formula_over_rho(walk, rho, dtype):
    *_, last = walk(rho, dtype)
    np.testing.assert_allclose(last, AFTER_FIVE_STEPS[rho], rtol=0, atol=0.5001e-4)


def test_every_rule_finds_a_minimum(rule, dtype):
    """Of a bowl, half a unit away in each direction, with its defaults; and climbs with maximize."""
    target = np.array([0.5, -0.5, 0.25], dtype)
    param, climbing = np.zeros(3, dtype), np.zeros(3, dtype)
    optimizer, other = CLASSES[rule](param), CLASSES[rule](climbing, maximize=True)
    for _ in range(10_000):
        optimizer.step(param - target)
        other.step(target - climbing)
    np.testing.assert_allclose(param, target, rtol=0, atol=0.01)
    assert climbing.tobytes() == param.tobytes()


def test_line_from_one_point_at_a_time():
    """All runs of the demo, each with points in an order of its own."""
    rng = np.random.default_rng(0)
    x, y = regression.points(rng)
    order = regression.orders(rng, 50)
    fitted = np.tile(np.polyfit(x, y, 1), (order.shape[1], 1))
    settled = regression.learn(instep.RMSprop, x, y, order, cosine(0.1, len(order)))
    np.testing.assert_allclose(settled[-1], fitted, rtol=0, atol=0.02)
    shaking = regression.learn(instep.RMSprop, x, y, order, constant(0.1))
    np.testing.assert_allclose(shaking[-1], fitted, rtol=0, atol=0.6)
    np.testing.assert_allclose(shaking[len(shaking) // 2 :].mean(axis=0), fitted, rtol=0, atol=0.15)
    assert np.abs(shaking[-1] - fitted).mean() > 5 * np.abs(settled[-1] - fitted).mean()


def test_gradients_of_the_network():
    rng = np.random.default_rng(0)
    train, _ = digits.load(rng)
    params = {name: param.astype(np.float64) for name, param in digits.network(rng).items()}
    few = digits.Images(train.pixels[:8].astype(np.float64), train.digits[:8])
    grads = digits.gradients(params, *few)
    for name, param in params.items():
        direction = rng.normal(size=param.shape)
        loss = [digits.measure(params | {name: param + h * direction}, few)[0] for h in (1e-6, -1e-6)]
        assert (loss[0] - loss[1]) / 2e-6 == pytest.approx(np.sum(grads[name] * direction), rel=1e-6)


@pytest.mark.unemulated("minutes of matrix products, which are NumPy's")
@pytest.mark.parametrize("seed", range(3))
def test_digits(seed):
    rng = np.random.default_rng(seed)
    train, test = digits.load(rng)
    with threadpool_limits(1, user_api="blas"):
        *_, last = digits.learn(instep.RMSprop, digits.network(rng), train, test, 40, rng)
    assert last.test_accuracy >= 0.97
