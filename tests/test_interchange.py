"""Runs that move between instep and a framework in mid-training, against runs that never moved.

All of them in float64, over 60 steps.  A run that moved takes the same steps as one that did not, with the operations
in the order of one framework for the first half and of the other for the second.  That leaves a few roundings of
1.1e-16 a step, relative to the way so far.  1e-12 is an order of magnitude above 60 steps of them; any mistake in the
state (no momentum, momentum without the learning rate, the variance for the square) is many orders above that.

A framework that is not installed skips its tests; with INSTEP_REQUIRE_PEERS=1 it fails them.
"""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

import instep
from floating_point import MODES, floating_point_mode
from instep.interchange import from_keras, from_optax, from_torch, to_keras, to_optax, to_torch
from peers import peer

HALF = 30
LR = 0.01
TOLERANCE = 1e-12
GRADS = np.random.default_rng(20).normal(0.3, 1.0, (2 * HALF, 12))


def start():
    """Nested as a network's, in the order in which every framework has them."""
    params = np.random.default_rng(21).normal(size=12)
    return {"bias": params[:4].copy(), "layers": [params[4:10].copy().reshape(2, 3), params[10:].copy()]}


def leaves(params):
    return [params["bias"], *params["layers"]]


def flat(params):
    return np.concatenate([np.ravel(leaf) for leaf in leaves(params)])


def nested(row):
    return {"bias": row[:4], "layers": [row[4:10].reshape(2, 3), row[10:]]}


def walk(optimizer, rows):
    for row in rows:
        optimizer.step(nested(row))


def assert_same_way(moved, stayed):
    distance = np.abs(flat(start()) - stayed).max()
    assert distance > 10 * LR
    assert np.abs(moved - stayed).max() <= TOLERANCE * distance


def assert_same_bits(state_dict, other):
    np.testing.assert_equal(other, state_dict)
    for name, arrays in state_dict["state"].items():
        for place, array in arrays.items():
            assert array.tobytes() == other["state"][name][place].tobytes()


def there_and_here(framework, options):
    """Half there, half here; and half here, half there; beside all there."""
    stayed = framework(options)
    stayed.step(GRADS)

    left = framework(options)
    left.step(GRADS[:HALF])
    params = left.params()
    here = left.leave(params)
    assert here.step_count == HALF
    walk(here, GRADS[HALF:])
    assert_same_way(flat(params), flat(stayed.params()))

    params = start()
    here = instep.RMSprop(params, lr=LR, **framework.at_home(options))
    walk(here, GRADS[:HALF])
    there = framework(options, params, here)
    there.step(GRADS[HALF:])
    assert_same_way(flat(there.params()), flat(stayed.params()))


def every(**choices):
    """Every combination; None leaves an option out."""
    return [
        {key: value for key, value in zip(choices, values, strict=True) if value is not None}
        for values in itertools.product(*choices.values())
    ]


# ---- torch ----------------------------------------------------------------------------------------------------------


class Torch:
    """A run of torch.optim.RMSprop, from the start or from where an optimizer of ours is."""

    def __init__(self, options, params=None, ours=None):
        self.torch = peer("torch")
        self.parameters = [self.torch.nn.Parameter(self.torch.tensor(leaf)) for leaf in leaves(params or start())]
        self.optimizer = self.torch.optim.RMSprop(self.parameters, **({"lr": LR} | options if ours is None else {}))
        if ours is not None:
            self.optimizer.load_state_dict(to_torch(ours))

    def step(self, rows):
        for row in rows:
            for parameter, grad in zip(self.parameters, leaves(nested(row)), strict=True):
                parameter.grad = self.torch.tensor(grad)
            self.optimizer.step()

    def params(self):
        bias, *layers = [parameter.detach().numpy().copy() for parameter in self.parameters]
        return {"bias": bias, "layers": layers}

    def leave(self, params):
        return from_torch(self.optimizer.state_dict(), params)

    @staticmethod
    def at_home(options):
        words = {"alpha": "rho"}
        return {"rho": 0.99} | {words.get(name, name): value for name, value in options.items()}


@pytest.mark.parametrize(
    "options",
    every(momentum=[None, 0.9], centered=[None, True], weight_decay=[None, 0.1], maximize=[None, True]),
    ids=str,
)
def test_torch(options):
    there_and_here(Torch, options)


def test_torch_takes_momentum_with_the_learning_rate_in_it():
    """Ours may carry it so; torch cannot."""
    stayed = Torch({"momentum": 0.9})
    stayed.step(GRADS)
    params = start()
    here = instep.RMSprop(params, lr=LR, rho=0.99, momentum=0.9, lr_in_momentum=True)
    walk(here, GRADS[:HALF])
    there = Torch({}, params, here)
    there.step(GRADS[HALF:])
    assert_same_way(flat(there.params()), flat(stayed.params()))


def test_torch_and_back_is_exact():
    peer("torch")
    here = instep.RMSprop(start(), lr=LR, momentum=0.9, weight_decay=0.01)
    walk(here, GRADS[:HALF])
    again = from_torch(to_torch(here), start())
    assert_same_bits(here.state_dict(), again.state_dict())


def test_torch_has_parameters_it_has_never_stepped():
    torch = peer("torch")
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    optimizer = torch.optim.RMSprop([{"params": parameters[:1]}, {"params": parameters[1:]}])
    for _ in range(2):
        parameters[0].grad = parameters[2].grad = torch.ones(2)
        optimizer.step()
    parameters[2].grad = None
    optimizer.step()
    here = from_torch(optimizer.state_dict(), [parameter.detach().numpy() for parameter in parameters])
    state_dict = here.state_dict()
    assert state_dict["step_counts"] == {"0": 3, "1": 0, "2": 2}
    assert state_dict["step_count"] == 3
    assert (state_dict["state"]["square_avg"]["1"] == 0).all()
    before = [parameter.detach().clone() for parameter in parameters]
    here.step([np.ones(2, np.float32), None, None])
    assert not torch.equal(parameters[0], before[0])  # the memory is torch's
    assert torch.equal(parameters[1], before[1])


@pytest.mark.parametrize("cut", [1, 2])
def test_torch_goes_on_with_its_groups_and_its_scheduler(cut):
    """Which keeps what it needs in the groups; the learning rate is its to say, and ours to follow."""
    torch = peer("torch")

    def make():
        parameters = [torch.nn.Parameter(torch.tensor(leaf)) for leaf in leaves(start())]
        groups = [{"params": parameters[:cut]}, {"params": parameters[cut:], "foreach": False}]
        optimizer = torch.optim.RMSprop(groups, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=2 * HALF)
        return parameters, optimizer, scheduler

    def walk_there(parameters, optimizer, scheduler, rows):
        for row in rows:
            for parameter, grad in zip(parameters, leaves(nested(row)), strict=True):
                parameter.grad = torch.tensor(grad)
            optimizer.step()
            scheduler.step()

    stayed, moved = make(), make()
    walk_there(*stayed, GRADS[:-1])
    walk_there(*moved, GRADS[: HALF - 1])
    parameters, theirs, scheduler = moved
    here = from_torch(theirs.state_dict(), [parameter.detach().numpy() for parameter in parameters])
    here.step(leaves(nested(GRADS[HALF - 1])))
    before = theirs.state_dict()
    given = to_torch(here, like=before)
    assert given["param_groups"] == before["param_groups"]
    assert len(given["param_groups"]) == 2
    theirs.load_state_dict(given)
    scheduler.step()
    walk_there(*moved, GRADS[HALF:-1])
    flats = [np.concatenate([np.ravel(parameter.detach()) for parameter in run[0]]) for run in (moved, stayed)]
    assert_same_way(*flats)


def test_what_is_kept_of_torch_is_of_the_same_parameters():
    like = torch_state()
    with pytest.raises(ValueError, match="like is of 3 parameters, the optimizer of 2"):
        to_torch(instep.RMSprop(leaves(start())[:2], lr=LR), like=like)
    with pytest.raises(ValueError, match="not the state_dict of"):
        to_torch(instep.RMSprop(start(), lr=LR), like={})
    like["param_groups"][0] |= {"capturable": True, "initial_lr": 0.5, "lr": 0.25}
    group = to_torch(instep.RMSprop(start(), lr=0.125), like=like)["param_groups"][0]
    assert (group["capturable"], group["initial_lr"], group["lr"]) == (True, 0.5, 0.125)


def torch_state(change=None, **options):
    run = Torch(options)
    run.step(GRADS[:1])
    state_dict = run.optimizer.state_dict()
    if change:
        change(state_dict)
    return state_dict


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state["param_groups"].append(state["param_groups"][0] | {"lr": 9.0, "params": []}), "differ"),
        (lambda state: state["param_groups"][0].pop("maximize"), "not the state_dict of"),
        (lambda state: state["param_groups"][0].update(decoupled_decay=True), "not the state_dict of"),
        (lambda state: state["param_groups"][0]["params"].pop(), "2 parameters, params holds 3"),
        (lambda state: state["param_groups"][0]["params"].reverse(), "shape"),
        (lambda state: state["param_groups"][0].update(momentum=0.9), "no momentum_buffer"),
        (lambda state: state["param_groups"][0].update(alpha=2.0), "rho=2.0"),
        (lambda state: state["state"][0].update(square_avg=state["state"][0]["square_avg"].float()), "dtype"),
        (
            lambda state: state["state"][1].update(square_avg=state["state"][1]["square_avg"].bfloat16()),
            "square_avg of 'layers/0' is an array of bfloat16",
        ),
        (
            lambda state: state["state"][0].update(step=state["state"][0]["step"] + 1.75),
            "2.75 is not a number of steps",
        ),
        (lambda state: state["state"][0].update(step=float("nan")), "nan is not a number of steps"),
        (lambda state: state["state"][0].update(step=float("inf")), "inf is not a number of steps"),
        (lambda state: state["state"][0].update(step=-1), "-1 is not a number of steps"),
        (lambda state: state["state"][0].pop("step"), "no step"),
        (lambda state: state["param_groups"][0].pop("params"), "not the state_dict of"),
        (lambda state: state["param_groups"].clear(), "not the state_dict of"),
        (lambda state: state.pop("state"), "not the state_dict of"),
        (lambda state: state.clear(), "not the state_dict of"),
    ],
    ids=[
        "groups",
        "stable-baselines3",
        "timm",
        "count",
        "order",
        "momentum",
        "alpha",
        "float32",
        "bfloat16",
        "step 2.75",
    ]
    + ["step nan", "step inf", "step -1", "no step", "no params", "no groups", "no state", "nothing"],
)
def test_other_states_of_torch_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        from_torch(torch_state(change), start())


@pytest.mark.parametrize(
    "options",
    [
        dict(eps_inside=True),
        dict(momentum=0.9, nesterov=True),
        dict(bias_correction=True),
        dict(weight_decay=0.1, decoupled_weight_decay=True),
        dict(lr=0.0, momentum=0.9, lr_in_momentum=True),
    ],
    ids=str,
)
def test_what_torch_cannot_express_is_refused(options):
    peer("torch")
    with pytest.raises(ValueError, match=r"torch has no RMSprop with|lr=0"):
        to_torch(instep.RMSprop(start(), **options))


# ---- Keras ----------------------------------------------------------------------------------------------------------


class Keras:
    """A run of keras.optimizers.RMSprop, on its torch backend, for its NumPy one turns float64 into float32."""

    def __init__(self, options, params=None, ours=None):
        os.environ.setdefault("KERAS_BACKEND", "torch")
        self.torch, self.keras = peer("torch"), peer("keras")
        self.variables = [self.keras.Variable(leaf, dtype="float64") for leaf in leaves(params or start())]
        config, values = ({"learning_rate": LR} | options, []) if ours is None else to_keras(ours)
        self.optimizer = self.keras.optimizers.RMSprop(**config)
        self.optimizer.build(self.variables)
        if ours is not None:
            for variable, value in zip(self.optimizer.variables, values, strict=True):
                variable.assign(value)

    def step(self, rows):
        for row in rows:
            grads = [self.torch.tensor(grad) for grad in leaves(nested(row))]
            self.optimizer.apply(grads, self.variables)

    def params(self):
        bias, *layers = [variable.value.detach().numpy().copy() for variable in self.variables]
        return {"bias": bias, "layers": layers}

    def leave(self, params):
        return from_keras(self.optimizer.get_config(), self.optimizer.variables, params)

    @staticmethod
    def at_home(options):
        return dict(rho=0.9, eps=1e-7, eps_inside=True, lr_in_momentum=True, decoupled_weight_decay=True) | options


@pytest.fixture
def floatx():
    """Keras's learning rate is a variable of this type."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    config = peer("keras").config
    before = config.floatx()
    config.set_floatx("float64")
    yield
    config.set_floatx(before)


@pytest.mark.usefixtures("floatx")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")
@pytest.mark.parametrize(
    "options", every(momentum=[None, 0.9], centered=[None, True], weight_decay=[None, 0.1]), ids=str
)
def test_keras(options):
    there_and_here(Keras, options)


@pytest.mark.usefixtures("floatx")
def test_keras_takes_momentum_without_the_learning_rate_in_it():
    stayed = Keras({"momentum": 0.9})
    stayed.step(GRADS)
    params = start()
    here = instep.RMSprop(params, lr=LR, **Keras.at_home(dict(momentum=0.9, lr_in_momentum=False)))
    walk(here, GRADS[:HALF])
    there = Keras({}, params, here)
    there.step(GRADS[HALF:])
    assert_same_way(flat(there.params()), flat(stayed.params()))


def test_keras_and_back_is_exact():
    here = instep.RMSprop(start(), lr=LR, **Keras.at_home(dict(momentum=0.9, weight_decay=0.01)))
    walk(here, GRADS[:HALF])
    config, values = to_keras(here)
    assert_same_bits(here.state_dict(), from_keras(config, values, start()).state_dict())


def test_a_learning_rate_that_was_assigned_later_is_taken():
    config, values = to_keras(instep.RMSprop(start(), lr=LR, **Keras.at_home({})))
    values[1] = np.float32(0.5)
    assert from_keras(config, values, start()).lr == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(clipnorm=1.0), "no counterpart for clipnorm"),
        (dict(use_ema=True, ema_momentum=0.9), "no counterpart for use_ema"),
        (dict(gradient_accumulation_steps=2), "no counterpart for gradient_accumulation_steps"),
        (dict(learning_rate={"class_name": "ExponentialDecay"}), "schedule"),
        (dict(momentum=0.9), "5 variables; 8 are needed"),
        (dict(rho=5.0), "rho=5.0"),
    ],
    ids=str,
)
def test_other_configurations_of_keras_are_refused(changes, message):
    config, values = to_keras(instep.RMSprop(start(), **Keras.at_home({})))
    with pytest.raises(ValueError, match=message):
        from_keras(config | changes, values, start())


def test_a_fraction_of_a_step_of_keras_is_refused():
    config, values = to_keras(instep.RMSprop(start(), **Keras.at_home({})))
    with pytest.raises(ValueError, match=r"1\.5 is not a number of steps"):
        from_keras(config, [np.array(1.5), *values[1:]], start())


def test_other_optimizers_of_keras_are_refused():
    config, values = to_keras(instep.RMSprop(start(), **Keras.at_home({})))
    for name in ("rho", "centered", "momentum"):
        with pytest.raises(ValueError, match="not the configuration"):
            from_keras({key: value for key, value in config.items() if key != name}, values, start())
    for length in range(len(values)):
        with pytest.raises(ValueError, match="5 are needed"):
            from_keras(config, values[:length], start())
    with pytest.raises(ValueError, match="shape"):
        from_keras(config, values[:2] + values[:1:-1], start())


@pytest.mark.parametrize(
    "options",
    [
        dict(eps_inside=False),
        dict(momentum=0.9, nesterov=True),
        dict(bias_correction=True),
        dict(weight_decay=0.1, decoupled_weight_decay=False),
        dict(maximize=True),
        dict(lr=0.0, momentum=0.9, lr_in_momentum=False),
    ],
    ids=str,
)
def test_what_keras_cannot_express_is_refused(options):
    with pytest.raises(ValueError, match=r"Keras has no RMSprop with|lr=0"):
        to_keras(instep.RMSprop(start(), **Keras.at_home({}) | options))


# ---- optax ----------------------------------------------------------------------------------------------------------


class Optax:
    """A run of optax.rmsprop."""

    schedule = False

    def __init__(self, options, params=None, ours=None):
        jax, optax = peer("jax"), peer("optax")
        self.jax, self.options = jax, options
        with jax.enable_x64(True):
            self.values = jax.tree.map(jax.numpy.asarray, params or start())
            lr = (lambda count: LR) if self.schedule else LR
            self.rule = optax.rmsprop(lr, **options)
            self.state = self.rule.init(self.values)
            if ours is not None:
                self.state = to_optax(ours, self.state)

    def step(self, rows):
        with self.jax.enable_x64(True):

            def step(carry, grads):
                values, state = carry
                update, state = self.rule.update(grads, state)
                return (self.jax.tree.map(lambda value, change: value + change, values, update), state), None

            grads = self.jax.tree.map(lambda *rows: self.jax.numpy.stack(rows), *map(nested, rows))
            (self.values, self.state), _ = self.jax.lax.scan(step, (self.values, self.state), grads)

    def params(self):
        return self.jax.tree.map(lambda value: np.array(value), self.values)

    def leave(self, params):
        counted = self.schedule or self.options.get("bias_correction")
        steps = {} if counted else {"step_count": HALF}
        return from_optax(self.state, params, lr=LR, **steps, **self.in_our_words(self.options))

    @staticmethod
    def in_our_words(options):
        words = {"decay": "rho", "eps_in_sqrt": "eps_inside", "initial_scale": "initial_square_avg"}
        return {words.get(name, name): value for name, value in options.items()}

    @classmethod
    def at_home(cls, options):
        return dict(rho=0.9, eps_inside=True, lr_in_momentum=True) | cls.in_our_words(options)


class OptaxWithSchedule(Optax):
    schedule = True


OPTAX = [
    options
    for options in every(
        momentum=[None, 0.9], nesterov=[None, True], centered=[None, True], bias_correction=[None, True]
    )
    if not (options.get("nesterov") and "momentum" not in options)
    and not (options.get("centered") and options.get("bias_correction"))
] + [dict(eps_in_sqrt=False), dict(initial_scale=1.0, decay=0.99)]


@pytest.mark.parametrize("options", OPTAX, ids=str)
def test_optax(options):
    there_and_here(Optax, options)


@pytest.mark.parametrize("options", [{}, dict(momentum=0.9, bias_correction=True)], ids=str)
def test_optax_with_a_schedule(options):
    there_and_here(OptaxWithSchedule, options)


def test_optax_takes_momentum_without_the_learning_rate_in_it():
    stayed = Optax({"momentum": 0.9})
    stayed.step(GRADS)
    params = start()
    here = instep.RMSprop(params, lr=LR, **Optax.at_home(dict(momentum=0.9)) | dict(lr_in_momentum=False))
    walk(here, GRADS[:HALF])
    there = Optax({"momentum": 0.9}, params, here)
    there.step(GRADS[HALF:])
    assert_same_way(flat(there.params()), flat(stayed.params()))


def test_optax_momentum_comes_without_the_learning_rate_if_asked_for():
    run = Optax({"momentum": 0.9})
    run.step(GRADS[:3])
    as_it_is, without = (
        from_optax(run.state, start(), lr=0.25, momentum=0.9, step_count=3, lr_in_momentum=into)
        for into in (True, False)
    )
    as_it_is.lr_in_momentum = False
    assert_same_bits(as_it_is.state_dict(), without.state_dict())


def test_optax_and_back_is_exact():
    options = dict(momentum=0.9, bias_correction=True)
    here = instep.RMSprop(start(), lr=LR, **Optax.at_home(options))
    walk(here, GRADS[:HALF])
    there = Optax(options, start(), here)
    again = from_optax(there.state, start(), lr=LR, **options)
    assert_same_bits(here.state_dict(), again.state_dict())


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, dict(momentum=0.9), "the options need square_avg, momentum_buffer"),
        (dict(momentum=0.9), {}, "has square_avg, momentum_buffer"),
        (dict(centered=True), {}, "has square_avg, grad_avg"),
        (dict(bias_correction=True), dict(bias_correction=True, step_count=7), "counts of steps differ"),
        ({}, dict(rho=1.0), "rho=1.0"),
    ],
    ids=str,
)
def test_other_states_of_optax_are_refused(options, given, message):
    run = Optax(options)
    with pytest.raises(ValueError, match=message):
        from_optax(run.state, start(), **{"lr": LR, "step_count": 0} | given)
    with pytest.raises(ValueError, match="another nesting"):
        from_optax(run.state, leaves(start()), lr=LR, **{"step_count": 0} | options)


def test_an_optax_state_that_does_not_count_needs_a_count():
    with pytest.raises(TypeError, match="step_count"):
        from_optax(Optax({}).state, start(), lr=LR)
    with pytest.raises(TypeError, match="lr"):
        from_optax(Optax({}).state, start(), step_count=1)


def test_other_transforms_of_optax_are_refused():
    optax = peer("optax")
    for state in (
        optax.adam(LR).init({}) + optax.rmsprop(LR).init({}),
        optax.multi_transform({}, {}).init({}),
        optax.chain(optax.ema(0.9), optax.rmsprop(LR)).init({}),
        [*optax.rmsprop(LR).init({})],
        None,
    ):
        with pytest.raises(ValueError, match=r"not the state of an optax\.rmsprop|the optax state has"):
            from_optax(state, start(), lr=LR, step_count=1)


@pytest.mark.parametrize("options", [dict(maximize=True), dict(weight_decay=0.1), dict(momentum=0.5, lr=0.0)], ids=str)
def test_what_optax_cannot_express_is_refused(options):
    there = Optax({"momentum": 0.5} if "momentum" in options else {})
    with pytest.raises(ValueError, match=r"optax has no RMSprop with|lr=0"):
        to_optax(instep.RMSprop(start(), **{"eps_inside": True} | options), there.state)


def test_a_state_of_optax_that_does_not_fit_is_refused():
    here = instep.RMSprop(start(), lr=LR, **Optax.at_home({}))
    with pytest.raises(ValueError, match="the options need"):
        to_optax(here, Optax({"momentum": 0.9}).state)
    with pytest.raises(ValueError, match="another nesting"):
        to_optax(instep.RMSprop(leaves(start()), lr=LR), Optax({}).state)
    uneven = instep.RMSprop(start(), lr=LR, **Optax.at_home({"bias_correction": True}))
    uneven.step({"bias": np.ones(4), "layers": [None, None]})
    with pytest.raises(ValueError, match="different number of times"):
        to_optax(uneven, Optax({"bias_correction": True}).state)


# ---- all of them ----------------------------------------------------------------------------------------------------


def test_a_converted_momentum_has_the_same_bits_in_every_floating_point_mode():
    """The caller's mode is as it was afterwards, and NumPy raises nothing, whatever it has been told to."""
    torch = peer("torch")

    def diverged():
        optimizer = instep.RMSprop(np.ones(4), lr=1 / 3, momentum=0.9, centered=True, lr_in_momentum=True)
        optimizer.step(np.array([1e-160, np.nan, np.inf, 0.7]))
        return optimizer

    theirs = to_torch(diverged())["state"][0]
    moved = diverged()
    moved.lr_in_momentum = moved.centered = False
    for control in MODES.values():
        optimizer, again = diverged(), diverged()
        with np.errstate(all="raise"), floating_point_mode(control) as left:
            again.lr_in_momentum = again.centered = False
            found = to_torch(optimizer)
            back = from_torch(found, np.ones(4))
        assert left.control == control
        for name, tensor in theirs.items():
            assert found["state"][0][name].numpy().tobytes() == tensor.numpy().tobytes()
        for name, array in moved.state.items():
            assert again.state[name].tobytes() == array.tobytes()
        assert_same_bits(from_torch(to_torch(diverged()), np.ones(4)).state_dict(), back.state_dict())
    assert not torch.isnan(theirs["momentum_buffer"][0])


@pytest.mark.parametrize(
    ("lr", "into", "message"),
    [
        (1e-50, True, r"lr is 0 in float32 \(lr=1e-50\)"),
        (1e-50, False, r"lr is 0 in float32 \(lr=1e-50\)"),
        (1e-40, False, r"divided by lr=1e-40 overflows float32"),
        (1e38, True, r"multiplied by lr=1e\+38 overflows float32"),
    ],
)
def test_a_momentum_that_cannot_be_converted_is_refused(lr, into, message):
    """Rather than become infinite, or a NaN where it is 0."""
    options = dict(lr=lr, momentum=0.9, eps_inside=into, lr_in_momentum=not into)
    optimizer = instep.RMSprop({"w": np.ones(3, np.float32)}, **options)
    optimizer.state["momentum_buffer"]["w"][:] = 0, 10, np.inf
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.lr_in_momentum = into
    np.testing.assert_equal(optimizer.state_dict(), before)
    if into:
        with pytest.raises(ValueError, match=message):
            to_keras(optimizer)
    else:
        peer("torch")
        with pytest.raises(ValueError, match=message):
            to_torch(optimizer)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_infinite_momentum_stays_infinite(value):
    optimizer = instep.RMSprop(np.ones(2), lr=0.25, momentum=0.9)
    optimizer.state["momentum_buffer"][:] = value, 1
    optimizer.lr_in_momentum = True
    np.testing.assert_equal(optimizer.state["momentum_buffer"], [value, 0.25])


def test_no_framework_is_imported():
    script = "import sys, instep; print(not {'torch', 'keras', 'jax', 'optax', 'safetensors'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout == b"True\n"
