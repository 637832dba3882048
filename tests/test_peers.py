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
import inspect
import os
import sys
import types
from functools import cache, partial

import numpy as np
import pytest

import instep
from instep.dialects import dialects
from instep.optimizers import Optimizer
from peers import REQUIRED, peer
from trajectories import (
    CLASSES,
    SCALES,
    STEPS,
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
    words,
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


def torch_optimizer(framework, rule):
    """The class of a framework for torch."""
    if framework == "timm":
        return peer_file("timm", "timm/optim/rmsprop_tf.py").RMSpropTF
    if framework == "sb3":
        path = "stable_baselines3/common/sb2_compat/rmsprop_tf_like.py"
        return peer_file("stable-baselines3", path).RMSpropTFLike
    return getattr(peer("torch").optim, CLASSES[rule].__name__)


def walk_torch(make, begin, grads, rates, options):
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


def keras_optimizer(framework, rule):
    os.environ.setdefault("KERAS_BACKEND", "torch")  # its NumPy backend turns float64 into float32
    peer("torch")
    return getattr(peer("keras").optimizers, CLASSES[rule].__name__)


def walk_keras(make, begin, grads, rates, options):
    backend, framework = peer("torch"), peer("keras")
    floatx = framework.config.floatx()
    framework.config.set_floatx("float64")  # the learning rate is a variable of this type
    try:
        param = framework.Variable(begin, dtype="float64")
        optimizer = make(**options)
        walk = [begin]
        for k, grad in enumerate(grads):
            if rates is not None:
                optimizer.learning_rate = rates[k]
            optimizer.apply([backend.tensor(grad)], [param])
            walk.append(param.value.detach().numpy().copy())
    finally:
        framework.config.set_floatx(floatx)
    return np.array(walk)


def optax_optimizer(framework, rule):
    peer("jax")
    return getattr(peer("optax"), rule)


def walk_optax(make, begin, grads, rates, options):
    jax, framework = peer("jax"), peer("optax")
    if options.get("amsgrad"):  # a function of its own
        make, options = framework.amsgrad, {name: value for name, value in options.items() if name != "amsgrad"}
    defaults = {name: parameter.default for name, parameter in inspect.signature(make).parameters.items()}
    options = {name: value for name, value in (defaults | options).items() if isinstance(value, (bool, float))}
    flags = tuple((name, value) for name, value in options.items() if isinstance(value, bool))
    numbers = {name: value for name, value in options.items() if not isinstance(value, bool)}
    with jax.enable_x64(True):
        walk = compiled_optax(make, flags)(numbers, begin, grads, rates)
        return np.vstack([begin, np.asarray(walk)])


@cache
def compiled_optax(make, flags):
    """One program for all numbers, for to compile it takes far longer than the walk."""
    jax, framework = peer("jax"), peer("optax")

    def walk(numbers, begin, grads, rates):
        rule = make(learning_rate=lambda count: rates[count], **dict(flags), **numbers)

        def step(carry, grad):
            param, state = carry
            update, state = rule.update(grad, state, param)
            param = framework.apply_updates(param, update)
            return (param, state), param

        return jax.lax.scan(step, (begin, rule.init(begin)), grads)[1]

    return jax.jit(walk)


def mlx_optimizer(framework, rule):
    peer("mlx.core")
    return getattr(peer("mlx.optimizers"), dict(adadelta="AdaDelta").get(rule, CLASSES[rule].__name__))


def walk_mlx(make, begin, grads, rates, options):
    mlx = peer("mlx.core")

    def array(values):
        return mlx.array(values, dtype=mlx.float64)

    with mlx.stream(mlx.cpu):  # no other device has float64
        optimizer = make(learning_rate=0.0, **options)
        param = array(begin)
        optimizer.init({"p": param})
        optimizer.state["step"] = array(0)  # the integer that it is makes powers of float32
        walk = [begin]
        for grad, rate in zip(grads, rates, strict=True):
            optimizer.state["learning_rate"] = array(rate)
            param = optimizer.apply_gradients({"p": array(grad)}, {"p": param})["p"]
            walk.append(np.array(param))
    return np.array(walk)


def sklearn_optimizer(framework, rule):
    """The estimator, for it is what has the options and their defaults."""
    return partial(peer("sklearn.neural_network").MLPClassifier, solver=rule)


def walk_sklearn(make, begin, grads, rates, options):
    optimizers = peer("sklearn.neural_network._stochastic_optimizers")
    param, e = begin.copy(), make(**options)
    if e.solver == "sgd":
        optimizer = optimizers.SGDOptimizer([param], e.learning_rate_init, "constant", e.momentum, e.nesterovs_momentum)
    else:
        optimizer = optimizers.AdamOptimizer([param], e.learning_rate_init, e.beta_1, e.beta_2, e.epsilon)
    walk = [begin]
    for k, grad in enumerate(grads):
        if rates is not None:
            optimizer.learning_rate = optimizer.learning_rate_init = rates[k]  # the one of SGD, the other of Adam
        optimizer.update_params([param], [grad])
        walk.append(param.copy())
    return np.array(walk)


# How to find a framework's optimizer of a rule, and every position on the way of one.
FRAMEWORKS = {
    "torch": (torch_optimizer, walk_torch),
    "keras": (keras_optimizer, walk_keras),
    "optax": (optax_optimizer, walk_optax),
    "timm": (torch_optimizer, walk_torch),
    "sb3": (torch_optimizer, walk_torch),
    "mlx": (mlx_optimizer, walk_mlx),
    "sklearn": (sklearn_optimizer, walk_sklearn),
}

# Options of theirs that are none of the rule: how it is computed, or what comes before and after it.
BESIDE_THE_RULE = {
    "torch": {"params", "foreach", "fused", "capturable", "differentiable"},
    "keras": {"clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum", "ema_overwrite_frequency"}
    | {"loss_scale_factor", "gradient_accumulation_steps", "name", "kwargs"},
    "optax": {"mu_dtype", "accumulator_dtype", "mask", "weight_decay_mask"},
    "timm": {"params", "foreach", "corrected_weight_decay", "caution"},
    "sb3": {"params"},
    "mlx": set(),
}

PRESETS = [(framework, rule) for framework in FRAMEWORKS for rule in dialects()[framework]]


def has(framework, options):
    """`optax.amsgrad` has no Nesterov's momentum."""
    return not (framework == "optax" and "amsgrad" in options and "nesterov" in options)


CONFIGURATIONS = [
    (framework, rule, options)
    for framework, rule in PRESETS
    for options in combinations(framework, rule, [name for name in dialects()[framework][rule].names if name != "lr"])
    if has(framework, options)
]


def apart(framework, rule, way, options):
    """The distance of preset and framework."""
    optimizer_of, walk = FRAMEWORKS[framework]
    theirs = walk(optimizer_of(framework, rule), *way, words(framework, rule, options))
    return distance(walk_preset(framework, rule, *way, options), theirs)


@pytest.mark.parametrize(("framework", "name", "options"), CONFIGURATIONS, ids=spell)
def test_preset_walks_as_the_framework(framework, name, options):
    scale = scales(framework, name, options)
    assert apart(framework, name, (start(scale), gradients(scale), learning_rates(1e-2)), options) <= TOLERANCE


@pytest.mark.parametrize(
    ("framework", "name"), [of for of in PRESETS if "weight_decay" in dialects()[of[0]][of[1]].names]
)
def test_decay_moves_without_a_gradient(framework, name):
    assert apart(framework, name, without_gradient(), dict(weight_decay=0.1)) <= TOLERANCE


@pytest.mark.parametrize(("framework", "name"), [of for of in PRESETS if "lr" in instep.presets(of[1])[of[0]]])
def test_preset_has_the_framework_s_learning_rate(framework, name):
    assert apart(framework, name, (start(SCALES), gradients(SCALES), None), {}) <= TOLERANCE


@pytest.mark.parametrize(("framework", "name"), PRESETS)
def test_preset_has_every_option_of_the_framework_with_its_default(framework, name):
    optimizer_of, _ = FRAMEWORKS[framework]
    dialect, listed = dialects()[framework][name], instep.presets(name)[framework]
    parameters = dict(inspect.signature(optimizer_of(framework, name)).parameters)
    if framework in BESIDE_THE_RULE:  # an estimator has much else
        known = {theirs if isinstance(theirs, str) else theirs[0] for theirs in dialect.names.values()}
        other = {"amsgrad"} if framework == "optax" else set()  # a function of its own
        assert set(parameters) - BESIDE_THE_RULE[framework] == known - other
    for ours, theirs in dialect.names.items():
        parameter = parameters.get(theirs if isinstance(theirs, str) else theirs[0])
        default = False if parameter is None else parameter.default
        if ours not in listed:
            assert ours == "lr"
            assert default in (inspect.Parameter.empty, None)
        elif default is None:
            assert ours in dialect.optional
        else:
            assert listed[ours] == (default if isinstance(theirs, str) else default[theirs[1]])


def optax_yogi(optax, rate):
    head = optax.scale_by_yogi(eps_root=1e-3, initial_accumulator_value=0.5)
    return optax.chain(head, optax.scale_by_learning_rate(rate))


def optax_amsgrad_uncorrected(optax, rate):
    return optax.amsgrad(rate, bias_correction_mu=False, bias_correction_nu=False)


def optax_adamw_amsgrad(optax, rate):
    return optax.chain(optax.scale_by_amsgrad(), optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(rate))


@pytest.mark.parametrize(
    ("name", "chain", "options"),
    [
        ("yogi", optax_yogi, dict(eps_root=1e-3, initial_grad_avg=0.5, initial_square_avg=0.5)),
        ("adam", optax_amsgrad_uncorrected, dict(amsgrad=True, bias_correction=False)),
        ("adamw", optax_adamw_amsgrad, dict(amsgrad=True, weight_decay=0.1)),
    ],
)
def test_what_optax_s_transformations_have_and_its_optimizers_lack(name, chain, options):
    way = start(SCALES), gradients(SCALES), learning_rates(1e-2)
    theirs = walk_optax(lambda learning_rate: chain(peer("optax"), learning_rate), *way, {})
    assert distance(walk_preset("optax", name, *way, options), theirs) <= TOLERANCE


def test_optax_s_rprop_is_a_step_late():
    """Which is why there is no such preset: its first step is none, then come the updates of the step before."""
    way = start(SCALES), np.abs(gradients(SCALES)), np.full(STEPS, 0.01)
    theirs = walk_optax(lambda learning_rate: peer("optax").rprop(0.01), *way, {})
    assert (theirs[1] == theirs[0]).all()
    assert distance(walk_preset("torch", "rprop", *way, {})[:-1], theirs[1:]) <= TOLERANCE


def test_optax_s_adadelta_climbs_without_a_learning_rate():
    """Which is why its preset needs one, though optax does not."""
    jax, optax = peer("jax"), peer("optax")
    for rate, sign in [(None, 1), (1.0, -1)]:
        rule = optax.adadelta(rate)
        update, _ = rule.update(jax.numpy.ones(1), rule.init(jax.numpy.ones(1)), jax.numpy.ones(1))
        assert np.sign(update) == sign


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sklearn_has_nesterov_s_momentum_where_there_is_any(momentum):
    way = start(SCALES), gradients(SCALES), learning_rates(1e-2)
    assert apart("sklearn", "sgd", way, dict(momentum=momentum)) <= TOLERANCE


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
    their_optimizer = framework.optim.RMSprop([theirs], **words("torch", "rmsprop", options))
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


def with_gaps():
    """The start of three arrays, 40 steps of gradients, and which of them are given."""
    rng = np.random.default_rng(20)
    given = rng.random((40, 3)) < [1.0, 0.6, 0.6]
    given[:5, 2] = False
    grads = rng.standard_normal((40, 3, 7))
    return rng.standard_normal((3, 7)), grads, given


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rmsprop", dict(momentum=0.9)),
        ("sgd", dict(momentum=0.9, dampening=0.5)),
        ("adagrad", dict(lr_decay=0.1)),
        ("adam", dict(amsgrad=True)),
        ("adamw", {}),
        ("adadelta", {}),
        ("rprop", {}),
    ],
)
def test_none_leaves_an_array_alone_as_in_torch(name, options):
    """It leaves a parameter, its state and its count as they are; the state is made at its first gradient."""
    framework = peer("torch")
    begin, grads, given = with_gaps()
    ours = list(begin.copy())
    theirs = [framework.nn.Parameter(framework.tensor(param)) for param in begin]
    optimizer = CLASSES[name].preset("torch", ours, **options)
    their_optimizer = torch_optimizer("torch", name)(theirs, **words("torch", name, options))
    our_walk, their_walk = [begin], [begin]
    for k in range(40):
        for i, param in enumerate(theirs):
            param.grad = framework.tensor(grads[k, i]) if given[k, i] else None
        their_optimizer.step()
        optimizer.step([grads[k, i] if given[k, i] else None for i in range(3)])
        our_walk.append(np.array(ours))
        their_walk.append(np.array([param.detach().numpy() for param in theirs]))
        if name != "sgd":  # which counts nothing
            steps = [int(their_optimizer.state[param].get("step", 0)) for param in theirs]
            assert steps == list(given[: k + 1].sum(0))
    assert distance(np.array(our_walk), np.array(their_walk)) <= TOLERANCE
    assert optimizer.step_count == 40
    assert list(optimizer.state_dict()["step_counts"].values()) == list(given.sum(0))


def test_an_array_that_missed_steps_has_the_bits_of_one_stepped_alone(rule):
    cls, options = Optimizer.of_rule(rule), dict(rmsprop=dict(bias_correction=True)).get(rule, {})
    begin, grads, given = with_gaps()
    together, alone = list(begin.copy()), list(begin.copy())
    optimizer = cls(together, **options)
    optimizers = [cls([param], **options) for param in alone]
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
