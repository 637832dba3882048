"""Every preset beside the framework whose name it has, where a registry has that framework.

Both walk the same float64 gradients for 300 steps under a changing learning rate, and every position on the way must
agree to 1e-12 of the way so far (`trajectories.distance`).  Formulas in another order of rounding differ by 300 steps
of a few 1.1e-16 each, which is 1e-13 at most if all of them add up; any other formula differs by orders more.

Centered needs a reason of its own: the frameworks subtract the squared mean from the mean square, and instep carries
the difference.  Their rounding grows by the ratio of the mean square to the difference.
`test_centered_gradients_do_not_cancel` keeps that ratio low, so that the bound stays the same.

A framework that is not installed skips its tests; with INSTEP_REQUIRE_PEERS=1, as in CI, it fails them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import types

import numpy as np
import pytest

import instep
from peers import REQUIRED, peer
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


def peer_file(distribution, path):
    """One module of a framework for torch, without the packages around it, which import torchvision or gymnasium."""
    peer("torch")
    try:
        files = importlib.metadata.files(distribution)
    except importlib.metadata.PackageNotFoundError:
        if REQUIRED:
            raise
        pytest.skip(f"could not find {distribution}")
    file = next(file for file in files if file.as_posix() == path)
    package = types.ModuleType(f"{file.stem}_package")
    package.__path__ = [str(file.locate().parent)]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.{file.stem}")


def walk_torch(make, begin, grads, rates, options):
    """Every position on the way of an optimizer for torch."""
    torch = peer("torch")
    param = torch.nn.Parameter(torch.tensor(begin))
    optimizer = make([param], **options)
    walk = [begin]
    for k, grad in enumerate(grads):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[k]
        param.grad = torch.tensor(grad)
        optimizer.step()
        walk.append(param.detach().numpy().copy())
    return np.array(walk)


def torch(*args):
    return walk_torch(peer("torch").optim.RMSprop, *args)


def timm(*args):
    return walk_torch(peer_file("timm", "timm/optim/rmsprop_tf.py").RMSpropTF, *args)


def sb3(*args):
    path = "stable_baselines3/common/sb2_compat/rmsprop_tf_like.py"
    return walk_torch(peer_file("stable-baselines3", path).RMSpropTFLike, *args)


def keras(begin, grads, rates, options):
    os.environ.setdefault("KERAS_BACKEND", "torch")  # its NumPy backend turns float64 into float32
    backend, framework = peer("torch"), peer("keras")
    floatx = framework.config.floatx()
    framework.config.set_floatx("float64")  # the learning rate is a variable of this type
    try:
        param = framework.Variable(begin, dtype="float64")
        optimizer = framework.optimizers.RMSprop(**options)
        walk = [begin]
        for k, grad in enumerate(grads):
            if rates is not None:
                optimizer.learning_rate = rates[k]
            optimizer.apply([backend.tensor(grad)], [param])
            walk.append(param.value.detach().numpy().copy())
    finally:
        framework.config.set_floatx(floatx)
    return np.array(walk)


def optax(begin, grads, rates, options):
    jax, framework = peer("jax"), peer("optax")
    with jax.enable_x64(True):
        schedule = jax.numpy.asarray(rates)
        rule = framework.rmsprop(lambda count: schedule[count], **options)

        def step(carry, grad):
            param, state = carry
            update, state = rule.update(grad, state)
            param = framework.apply_updates(param, update)
            return (param, state), param

        param = jax.numpy.asarray(begin)
        _, walk = jax.lax.scan(step, (param, rule.init(param)), jax.numpy.asarray(grads))
        return np.vstack([begin, np.asarray(walk)])


FRAMEWORKS = {walk.__name__: walk for walk in (torch, keras, optax, timm, sb3)}

WORDS = {
    "torch": {"rho": "alpha"},
    "keras": {"eps": "epsilon"},
    "optax": {"rho": "decay", "eps_inside": "eps_in_sqrt", "initial_square_avg": "initial_scale"},
    "timm": {"rho": "alpha", "decoupled_weight_decay": "decoupled_decay"},
    "sb3": {"rho": "alpha"},
}

EVERYWHERE = ["momentum", "centered", "eps", "rho"]
OPTIONS = {
    "torch": [*EVERYWHERE, "weight_decay", "maximize"],
    "keras": [*EVERYWHERE, "weight_decay"],
    "optax": [*EVERYWHERE, "nesterov", "bias_correction", "eps_inside", "initial_square_avg"],
    "timm": [*EVERYWHERE, "weight_decay", "decoupled_weight_decay", "lr_in_momentum"],
    "sb3": [*EVERYWHERE, "weight_decay"],
}
CONFIGURATIONS = [(name, options) for name, names in OPTIONS.items() for options in combinations(names)]


def apart(name, way, options):
    """The distance of preset and framework."""
    words = {WORDS[name].get(key, key): value for key, value in options.items()}
    return distance(walk_preset(name, *way, **options), FRAMEWORKS[name](*way, words))


@pytest.mark.parametrize(("name", "options"), CONFIGURATIONS, ids=spell)
def test_preset_walks_as_the_framework(name, options):
    scale = scales(options)
    assert apart(name, (start(scale), gradients(scale), learning_rates(1e-2)), options) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name, options in OPTIONS.items() if "weight_decay" in options])
def test_decay_moves_without_a_gradient(name):
    assert apart(name, without_gradient(), dict(weight_decay=0.1)) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name in FRAMEWORKS if "lr" in instep.presets()[name]])
def test_preset_has_the_framework_s_learning_rate(name):
    assert apart(name, (start(SCALES), gradients(SCALES), None), {}) <= TOLERANCE


def test_optax_has_no_learning_rate_either():
    with pytest.raises(TypeError):
        peer("optax").rmsprop()
    with pytest.raises(TypeError, match="needs lr"):
        instep.RMSprop.preset("optax", [np.zeros(1)])


@pytest.mark.parametrize("rho", [0.7, 0.9, 0.99])
def test_centered_gradients_do_not_cancel(rho):
    """What a framework divides by keeps a tenth of what it subtracts from, so that it loses one digit of sixteen."""
    square = mean = 0.0
    for grad in gradients(np.ones(SCALES.size)):
        square = rho * square + (1 - rho) * grad**2
        mean = rho * mean + (1 - rho) * grad
        assert (square - mean**2 >= 0.1 * square).all()


@pytest.mark.parametrize(
    "options",
    [
        dict(momentum=momentum, weight_decay=weight_decay) | form
        for momentum in (0.0, 0.9)
        for weight_decay in (0.0, 0.01)
        for form in (dict(rho=0.99), dict(rho=0.9, centered=True))
    ],
    ids=spell,
)
def test_square_avg_within_8_ulp_of_torch(options, dtype):
    """After 100 steps.

    Each step rounds v about as torch does, and forgets 1 - rho of it.  Centered instep has it as the sum of two other
    numbers, whose roundings have nothing to do with torch's, and at rho=0.99 torch alone is 10 ulp and more from the
    exact average by then; hence the shorter memory there.
    """
    framework = peer("torch")
    rng = np.random.default_rng(19)
    ours = rng.standard_normal(1000).astype(dtype)
    theirs = framework.nn.Parameter(framework.tensor(ours))
    optimizer = instep.RMSprop.preset("torch", [ours], **options)
    words = {WORDS["torch"].get(key, key): value for key, value in options.items()}
    their_optimizer = framework.optim.RMSprop([theirs], **words)
    for _ in range(100):
        grad = rng.standard_normal(1000).astype(dtype)
        theirs.grad = framework.tensor(grad)
        their_optimizer.step()
        optimizer.step([grad])

    state = {name: arrays[0] for name, arrays in optimizer.state.items()}
    if optimizer.centered:
        square_avg = instep.square_avg_of(state["variance"], state["grad_avg"])
    else:
        square_avg = state["square_avg"]
    bits = dtype.replace("float", "int")
    their_square_avg = their_optimizer.state[theirs]["square_avg"].numpy()
    assert np.abs(square_avg.view(bits) - their_square_avg.view(bits)).max() <= 8


def test_none_leaves_an_array_alone_as_in_torch():
    """In torch None leaves a parameter, its state and its `step` as they are; the state is made at its first gradient.

    Nothing in torch's formula depends on the count, so that instep's shows in its bias correction: an array that missed
    steps has the bits of one that an optimizer of its own took through the others.
    """
    framework = peer("torch")
    rng = np.random.default_rng(20)
    given = rng.random((40, 3)) < [1.0, 0.6, 0.6]
    given[:5, 2] = False
    grads = rng.standard_normal((40, 3, 7))
    begin = rng.standard_normal((3, 7))

    ours = list(begin.copy())
    theirs = [framework.nn.Parameter(framework.tensor(param)) for param in begin]
    optimizer = instep.RMSprop.preset("torch", ours, momentum=0.9)
    their_optimizer = framework.optim.RMSprop(theirs, momentum=0.9)
    our_walk, their_walk = [begin], [begin]
    for k in range(40):
        for i, param in enumerate(theirs):
            param.grad = framework.tensor(grads[k, i]) if given[k, i] else None
        their_optimizer.step()
        optimizer.step([grads[k, i] if given[k, i] else None for i in range(3)])
        our_walk.append(np.array(ours))
        their_walk.append(np.array([param.detach().numpy() for param in theirs]))
        assert [int(their_optimizer.state[param].get("step", 0)) for param in theirs] == list(given[: k + 1].sum(0))
    assert distance(np.array(our_walk), np.array(their_walk)) <= TOLERANCE
    assert optimizer.step_count == 40

    together, alone = list(begin.copy()), list(begin.copy())
    optimizer = instep.RMSprop(together, bias_correction=True)
    optimizers = [instep.RMSprop([param], bias_correction=True) for param in alone]
    for k in range(40):
        optimizer.step([grads[k, i] if given[k, i] else None for i in range(3)])
        for i in np.flatnonzero(given[k]):
            optimizers[i].step([grads[k, i]])
    assert np.array(together).tobytes() == np.array(alone).tobytes()


def test_all_none_is_refused_where_torch_is_silent():
    framework = peer("torch")
    theirs = framework.nn.Parameter(framework.ones(3))
    their_optimizer = framework.optim.RMSprop([theirs])
    their_optimizer.step()
    assert not their_optimizer.state
    optimizer = instep.RMSprop([np.ones(3)])
    with pytest.raises(ValueError, match="every gradient is None"):
        optimizer.step([None])
    assert optimizer.step_count == 0
