"""Runs that move between instep and a framework in mid-training, against runs that never moved.

Every rule of every framework, with every combination of the options that it has there.  A run that moved takes the same
steps as one that did not, with the operations in the order of one framework for the first half and of the other for the
second, all in float64.  That leaves a few roundings of 1.1e-16 a step, relative to the way so far
(`trajectories.distance`); any mistake in the state, such as momentum of the other sign or without the learning rate, or
the variance for the square, is many orders above 1e-12.

A framework that is not installed skips its tests; with INSTEP_REQUIRE_PEERS=1 it fails them.
"""

import functools
import itertools
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import instep
from floating_point import MODES, floating_point_mode
from instep.dialects import default_options, dialects, preset_options
from instep.interchange import from_keras, from_optax, from_torch, to_keras, to_optax, to_torch
from instep.optimizers import Optimizer
from peers import peer
from trajectories import TOLERANCE, distance, spell

HALF = 10
LR = 0.01
GRADS = np.random.default_rng(20).normal(0.3, 1.0, (2 * HALF, 12))
CLASSES = {
    cls.__name__.lower(): cls
    for cls in map(vars(instep).get, instep.__all__)
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
}

# Options that are tried with each other, and those that are tried all at once.
TOGETHER = dict(
    momentum=0.9,
    nesterov=True,
    dampening=0.3,
    centered=True,
    eps_inside=False,
    amsgrad=True,
    bias_correction=True,
    weight_decay=0.1,
    decoupled_weight_decay=True,
    maximize=True,
)
AT_ONCE = dict(
    rho=0.7,
    beta1=0.6,
    beta2=0.8,
    eps=1e-3,
    eps_root=1e-3,
    lr_decay=0.1,
    initial_square_avg=0.5,
    initial_square_sum=0.5,
    eta_minus=0.6,
    eta_plus=1.3,
    step_min=1e-3,
    step_max=0.03,
)
# What surrounds the formula, which a framework has for every rule or for none.
AROUND = [dict(clip_value=0.7, weight_decay=0.1), dict(grad_scale=0.75, average_decay=0.75)]
NORMS = [dict(clip_norm=0.7), dict(clip_global_norm=2.1, grad_scale=0.75, weight_decay=0.1)]


def start():
    """Nested as a network's, in the order in which every framework has them; one of them without dimensions."""
    return nested(np.random.default_rng(21).normal(size=12))


def nested(row):
    row = row.copy()
    return {"bias": row[:4], "layers": [row[4:10].reshape(2, 3), row[10:11].reshape(()), row[11:]]}


def leaves(params):
    return [params["bias"], *params["layers"]]


def flat(params):
    return np.concatenate([np.ravel(leaf) for leaf in leaves(params)])


def walk(optimizer, params, rows):
    """The positions after each step."""
    positions = []
    for row in rows:
        optimizer.step(nested(row))
        positions.append(flat(params))
    return positions


def assert_same_bits(state_dict, other):
    np.testing.assert_equal(other, state_dict)
    for name, arrays in state_dict["state"].items():
        for place, array in arrays.items():
            assert array.tobytes() == other["state"][name][place].tobytes()


def in_their_words(framework, variant, options):
    """Options of ours, `lr` among them; a tuple is filled up with the framework's own."""
    dialect, theirs = dialects()[framework][variant], {}
    every = instep.presets(variant)[framework] | options
    if "average_decay" in options:
        theirs |= {"use_ema": True, "ema_momentum": options["average_decay"]}
    if "grad_scale" in options:
        theirs["loss_scale_factor"] = 1 / options["grad_scale"]
    for name, key in dialect.all_names.items():
        if isinstance(key, tuple):
            theirs.setdefault(key[0], {})[key[1]] = every[name]
        elif name in options:
            theirs[key] = options[name]
    return {key: tuple(value.values()) if isinstance(value, dict) else value for key, value in theirs.items()}


class Torch:
    """A run of torch.optim, from the start or from where an optimizer of ours is."""

    def __init__(self, variant, options, params=None, ours=None):
        self.torch, self.variant = peer("torch"), variant
        self.parameters = [self.torch.nn.Parameter(self.torch.tensor(leaf)) for leaf in leaves(params or start())]
        arguments = {} if ours is not None else in_their_words("torch", variant, {"lr": LR} | options)
        self.optimizer = getattr(self.torch.optim, CLASSES[variant].__name__)(self.parameters, **arguments)
        if ours is not None:
            self.optimizer.load_state_dict(to_torch(ours))

    def step(self, rows):
        positions = []
        for row in rows:
            for parameter, grad in zip(self.parameters, leaves(nested(row)), strict=True):
                parameter.grad = self.torch.tensor(grad)
            self.optimizer.step()
            positions.append(np.concatenate([np.ravel(parameter.detach()) for parameter in self.parameters]))
        return positions

    def state(self):
        return (self.optimizer.state_dict(),)

    def leave(self, params):
        return from_torch(CLASSES[self.variant], *self.state(), params, **self.count(self.variant, HALF))

    @staticmethod
    def count(variant, step_count):
        return {"step_count": step_count} if variant == "sgd" else {}

    @classmethod
    def round_trip(cls, variant, ours, params, options):
        peer("torch")
        return from_torch(CLASSES[variant], to_torch(ours), params, **cls.count(variant, ours.step_count))


class Keras:
    """A run of keras.optimizers, on its torch backend, for its NumPy one turns float64 into float32.

    So does torch's with a norm that is clipped, but not JAX's.
    """

    def __init__(self, variant, options, params=None, ours=None):
        os.environ.setdefault("KERAS_BACKEND", "torch")
        peer("torch")
        self.keras, self.variant = peer("keras"), variant
        self.variables = [self.keras.Variable(leaf, dtype="float64") for leaf in leaves(params or start())]
        config, values = (
            (in_their_words("keras", variant, {"lr": LR} | options), []) if ours is None else to_keras(ours)
        )
        with self.float64():
            self.optimizer = getattr(self.keras.optimizers, CLASSES[variant].__name__)(**config)
            self.optimizer.build(self.variables)
        if ours is not None:
            for variable, value in zip(self.optimizer.variables, values, strict=True):
                variable.assign(value)

    def step(self, rows):
        positions = []
        for row in rows:
            grads = [self.keras.ops.convert_to_tensor(grad, "float64") for grad in leaves(nested(row))]
            with self.float64():
                self.optimizer.apply(grads, self.variables)
            positions.append(np.concatenate(list(map(self.values, self.variables))))
        return positions

    def values(self, variable):
        return np.ravel(self.keras.ops.convert_to_numpy(variable))

    @contextmanager
    def float64(self):
        """The type of the learning rate and of the weight decay."""
        self.keras.config.set_floatx("float64")
        yield
        self.keras.config.set_floatx("float32")

    def state(self):
        return self.optimizer.get_config(), self.optimizer.variables

    def leave(self, params):
        return from_keras(CLASSES[self.variant], *self.state(), params)

    @staticmethod
    def round_trip(variant, ours, params, options):
        return from_keras(CLASSES[variant], *to_keras(ours), params)


def optax_optimizer(variant, options, schedule=False):
    optax = peer("optax")
    amsgrad = options.get("amsgrad", False)
    options = {name: value for name, value in options.items() if name != "amsgrad"}
    theirs = in_their_words("optax", variant, {"lr": LR} | options)
    for name in ("learning_rate", "weight_decay") if schedule else ():
        if name in theirs:
            theirs[name] = functools.partial(lambda count, value: value, value=theirs[name])
    return getattr(optax, "amsgrad" if amsgrad else variant)(**theirs)


class Optax:
    """A run of optax."""

    schedule = False

    def __init__(self, variant, options, params=None, ours=None):
        self.jax, self.variant, self.options = peer("jax"), variant, options
        with self.jax.enable_x64(True):
            self.optimizer = optax_optimizer(variant, options, self.schedule)
            self.values = self.jax.tree.map(self.jax.numpy.asarray, params or start())
            self.at = self.optimizer.init(self.values)
        if ours is not None:
            self.at = to_optax(ours, self.at)

    def step(self, rows):
        positions = []
        for row in rows:
            with self.jax.enable_x64(True):
                grads = self.jax.tree.map(self.jax.numpy.asarray, nested(row))
                update, self.at = self.optimizer.update(grads, self.at, self.values)
                self.values = self.jax.tree.map(lambda value, change: value + change, self.values, update)
            positions.append(flat(self.values))
        return positions

    def state(self):
        return (self.at,)

    def leave(self, params):
        counted = any("count" in link._fields for link in self.at)
        steps = {} if counted else {"step_count": np.int32(HALF)}
        return from_optax(CLASSES[self.variant], *self.state(), params, lr=LR, **steps, **self.options)

    @classmethod
    def round_trip(cls, variant, ours, params, options):
        state = to_optax(ours, cls(variant, options, ours.params).at)
        return from_optax(CLASSES[variant], state, params, step_count=ours.step_count, lr=ours.lr, **options)


class OptaxWithSchedule(Optax):
    """Whose learning rate and weight decay come of functions of a count, which are states too."""

    schedule = True


FRAMEWORKS = {"torch": Torch, "keras": Keras, "optax": Optax}
VARIANTS = [(framework, variant) for framework in FRAMEWORKS for variant in dialects()[framework]]


def cannot_be(framework, variant, options):
    """What neither side has, or only one of them, or what changes nothing."""
    if "decoupled_weight_decay" in options and "weight_decay" not in options:
        return True
    if framework == "optax" and options.get("amsgrad") and options.get("nesterov"):
        return True
    try:
        CLASSES[variant].preset(framework, np.zeros(1), lr=LR, **options)
    except ValueError:
        return True
    return False


def combinations(framework, variant):
    """All the options that the framework has of a rule, in our words."""
    names = [name for name in TOGETHER if name in dialects()[framework][variant].names]
    for given in itertools.product((False, True), repeat=len(names)):
        yield {name: TOGETHER[name] for name, is_given in zip(names, given, strict=True) if is_given}
    at_once = {name: AT_ONCE[name] for name in AT_ONCE if name in dialects()[framework][variant].names}
    if at_once:
        yield at_once
    yield from AROUND if dialects()[framework][variant].around else ()


EVERY = [
    pytest.param(framework, variant, options, id=f"{framework}-{variant}-{spell(options)}")
    for framework, variant in VARIANTS
    for options in combinations(framework, variant)
    if not cannot_be(framework, variant, options)
]


def here(framework, variant, params, options, **changes):
    return CLASSES[variant].preset(framework, params, **{"lr": LR} | options | changes)


def test_every_option_is_tried():
    """Of those that say how a rule steps; each framework's own alone."""
    tried = {*TOGETHER, *AT_ONCE, "lr"}.union(*AROUND, *NORMS)
    for framework, variant in VARIANTS:
        dialect = dialects()[framework][variant]
        assert tried >= {*dialect.all_names, *dialect.otherwise}


def there_and_here(run, framework, variant, options):
    """Half there, half here; and half here, half there; beside all there."""
    there = run(variant, options)
    stayed = [flat(start()), *there.step(GRADS[:HALF])]
    params = nested(stayed[-1])
    arrived = there.leave(params)
    assert arrived.step_count == HALF
    moved = [*stayed, *walk(arrived, params, GRADS[HALF:])]
    stayed += there.step(GRADS[HALF:])
    assert np.abs(stayed[-1] - stayed[0]).max() > 1e-4
    assert distance(np.array(moved), np.array(stayed)) <= TOLERANCE

    params = start()
    ours = here(framework, variant, params, options)
    moved = [flat(start()), *walk(ours, params, GRADS[:HALF])]
    moved += run(variant, options, params, ours).step(GRADS[HALF:])
    assert distance(np.array(moved), np.array(stayed)) <= TOLERANCE


@pytest.mark.parametrize(("framework", "variant", "options"), EVERY)
def test_runs_move(framework, variant, options):
    there_and_here(FRAMEWORKS[framework], framework, variant, options)


def test_runs_whose_norms_are_clipped_move():
    """In Keras with JAX as its backend: each process has one."""
    peer("jax"), peer("keras")
    program = """
from test_interchange import NORMS, Keras, dialects, there_and_here
for variant in dialects()["keras"]:
    for options in NORMS:
        there_and_here(Keras, "keras", variant, options)
"""
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variant", dialects()["optax"])
def test_optax_with_schedules(variant):
    options = {"weight_decay": 0.1} if "weight_decay" in dialects()["optax"][variant].names else {}
    there_and_here(OptaxWithSchedule, "optax", variant, options)


@pytest.mark.parametrize(("framework", "variant", "options"), [param for param in EVERY if "centered" not in param.id])
def test_there_and_back_is_exact(framework, variant, options):
    """But for centered state, which others carry as another number, a rounding away."""
    params = start()
    ours = here(framework, variant, params, options)
    walk(ours, params, GRADS[:HALF])
    again = FRAMEWORKS[framework].round_trip(variant, ours, params, options)
    assert type(again) is type(ours)
    assert_same_bits(ours.state_dict(), again.state_dict())


@pytest.mark.parametrize(("framework", "variant", "options"), EVERY)
def test_a_number_by_itself(framework, variant, options):
    """NumPy's arithmetic makes scalars of arrays without dimensions."""
    if framework == "optax":
        peer("jax")
    else:
        peer("torch")
    param = np.array(0.5)
    ours = here(framework, variant, param, options)
    ours.step(np.array(0.25))
    if framework == "torch":
        again = from_torch(CLASSES[variant], to_torch(ours), np.array(0.5), **Torch.count(variant, 1))
    elif framework == "keras":
        again = from_keras(CLASSES[variant], *to_keras(ours), np.array(0.5))
    else:
        with peer("jax").enable_x64(True):
            state = to_optax(ours, optax_optimizer(variant, options).init(param))
        again = from_optax(CLASSES[variant], state, np.array(0.5), step_count=1, lr=LR, **options)
    assert again.step_count == 1
    for name in ours.state:
        assert again.state[name].shape == ()
        assert abs(again.state[name] - ours.state[name]) <= 1e-16


# ---- what is converted, what is refused -----------------------------------------------------------------------------

# Options that change nothing while another is off, or do not go with it, and that other.
NEEDS = dict(
    nesterov=dict(momentum=0.9),
    dampening=dict(momentum=0.9),
    dampen_first=dict(momentum=0.9, dampening=0.3),
    decoupled_weight_decay=dict(weight_decay=0.1),
    amsgrad_corrected=dict(amsgrad=True),
    bias_correction=dict(eps_hat=False),
    exact_rows=dict(beta1=0.0, weight_decay=0.0),
)


def another(framework, variant, name):
    """Options that differ from the framework's in this one, in a way that counts."""
    needed = {key: value for key, value in NEEDS.get(name, {}).items() if key in instep.presets(variant)[framework]}
    refused = dialects()[framework][variant].refused
    taken = {key: value for key, value in needed.items() if (key, bool(value)) not in refused}
    base = preset_options(CLASSES[variant], framework, {"lr": LR} | taken) | needed
    kind = type(base[name])
    return base | {name: not base[name] if kind is bool else base[name] + (1 if kind is int else 0.25)}


def to_anything(framework, variant, ours):
    return {"torch": to_torch, "keras": to_keras, "optax": lambda ours: to_optax(ours, Optax(variant, {}).at)}[
        framework
    ](ours)


LACKING = [
    (framework, variant, name)
    for framework, variant in VARIANTS
    for name in default_options(variant, framework)
    if name not in {*dialects()[framework][variant].all_names, *dialects()[framework][variant].otherwise}
    and name not in ("lr_in_momentum", "seed")
    and not name.startswith("initial_")
]


@pytest.mark.parametrize(("framework", "variant", "name"), LACKING)
def test_what_a_framework_does_not_have_is_refused(framework, variant, name):
    peer(framework if framework != "keras" else "torch")
    cls, options = CLASSES[variant], another(framework, variant, name)
    if (framework, variant, name) == ("optax", "adam", "decoupled_weight_decay"):
        return  # see test_an_adam_whose_decay_is_decoupled_goes_on_as_adamw
    ours = cls(start(), **options)
    before = ours.state_dict()
    called = {"keras": "Keras"}.get(framework, framework)
    with pytest.raises(ValueError, match=rf"^{called} has no {cls.__name__} with \w+="):
        to_anything(framework, variant, ours)
    assert_same_bits(before, ours.state_dict())


@pytest.mark.parametrize(
    ("cls", "options", "to", "message"),
    [
        (instep.SGD, dict(momentum=0.9, dampening=0.5), to_keras, r"Keras has no SGD with dampening=0\.5"),
        (instep.RMSprop, dict(momentum=0.9, nesterov=True), to_torch, "torch has no RMSprop with nesterov=True"),
        (instep.Adam, dict(eps_root=1e-3), to_torch, r"torch has no Adam with eps_root=0\.001"),
        (instep.Rprop, dict(weight_decay=0.1), to_torch, r"torch has no Rprop with weight_decay=0\.1"),
        (instep.Lion, {}, to_torch, "torch has no Lion; it has rmsprop, "),
        (instep.Lion, dict(beta1=0.0), to_keras, r"Keras has no Lion with beta1=0\.0"),
        (instep.Yogi, {}, to_keras, "Keras has no Yogi; it has rmsprop, "),
        (instep.AdamW, dict(decoupled_weight_decay=False), to_torch, "torch has no AdamW with decoupled_weight_decay="),
    ],
)
def test_the_message_names_framework_rule_and_option(cls, options, to, message):
    peer("torch")
    with pytest.raises(ValueError, match=message):
        to(cls(start(), **options))


@pytest.mark.parametrize("form", ["float16", "bfloat16", "8bit"])
def test_a_seed_that_changes_something_is_refused(form):
    peer("torch")
    pytest.importorskip("ml_dtypes")
    dtype, stored = (np.float32, dict(state_dtype=form)) if form == "8bit" else (np.dtype(form), {})
    with pytest.raises(ValueError, match=r"^torch has no Adam with seed=3"):
        to_torch(instep.Adam([np.ones(3, dtype)], seed=3, **stored))


@pytest.mark.parametrize(("framework", "variant"), VARIANTS)
def test_what_changes_nothing_is_not_refused(framework, variant):
    """How a momentum that there is not would be kept; how a state was made that there is already."""
    peer(framework if framework != "keras" else "torch")
    base = instep.presets(variant)[framework]
    idle = {name: not base[name] for name, needs in NEEDS.items() if name in base and isinstance(base[name], bool)}
    idle = {
        name: value
        for name, value in idle.items()
        if name not in ("nesterov", "amsgrad_corrected", "dampen_first", "bias_correction")
    }
    if "lr_in_momentum" in base:
        idle["lr_in_momentum"] = not base["lr_in_momentum"]
    idle |= {name: base[name] + 0.5 for name in base if name.startswith("initial_")}
    idle["seed"] = 3  # of no random number, where nothing has fewer bits
    ours = CLASSES[variant](start(), **base | {"lr": LR} | idle | {"weight_decay": 0.0})
    if framework == "optax" and variant == "adamw":
        return  # without weight decay an Adam
    to_anything(framework, variant, ours)


def test_an_adam_whose_decay_is_decoupled_goes_on_as_adamw(tmp_path):
    """What `instep.load` finds of an AdamW is an Adam."""
    peer("torch")
    params = start()
    ours = instep.AdamW(params, lr=LR)
    walk(ours, params, GRADS[:HALF])
    ours.save(tmp_path / "run")
    loaded = instep.load(tmp_path / "run", start())
    assert type(loaded) is instep.Adam
    assert to_torch(loaded)["param_groups"] == to_torch(ours)["param_groups"]
    assert_same_bits(from_torch(instep.AdamW, to_torch(loaded), start()).state_dict(), ours.state_dict())
    assert_same_bits(from_torch(instep.Adam, to_torch(ours), start()).state_dict(), ours.state_dict())
    state = to_optax(loaded, Optax("adamw", {}, params).at)
    again = from_optax(instep.AdamW, state, start(), lr=LR, weight_decay=0.01)
    assert_same_bits(again.state_dict(), ours.state_dict())


def test_a_decoupled_decay_of_0_stays_decoupled():
    """It may have a schedule."""
    torch = peer("torch")
    theirs = torch.optim.AdamW([torch.ones(3, dtype=torch.float64)], weight_decay=0.0)
    ours = from_torch(instep.Adam, theirs.state_dict(), [np.ones(3)])
    assert ours.decoupled_weight_decay
    ours.weight_decay = 0.1
    assert to_torch(ours)["param_groups"][0]["decoupled_weight_decay"]


MOMENTA = [
    (framework, variant) for framework, variant in VARIANTS if "lr_in_momentum" in instep.presets(variant)[framework]
]


@pytest.mark.parametrize(("framework", "variant"), MOMENTA)
def test_momentum_is_taken_with_the_learning_rate_in_it_or_not(framework, variant):
    options = dict(momentum=0.9)
    run = FRAMEWORKS[framework]
    stayed = [flat(start()), *run(variant, options).step(GRADS)]
    params = start()
    other_end = not instep.presets(variant)[framework]["lr_in_momentum"]
    ours = here(framework, variant, params, options, lr_in_momentum=other_end)
    moved = [flat(start()), *walk(ours, params, GRADS[:HALF])]
    moved += run(variant, options, params, ours).step(GRADS[HALF:])
    assert distance(np.array(moved), np.array(stayed)) <= TOLERANCE
    ours.lr = 0.0
    with pytest.raises(
        ValueError, match=rf"momentum_buffer of 'bias' cannot go between \w+ {CLASSES[variant].__name__}"
    ):
        run(variant, options, params, ours)


@pytest.mark.parametrize("variant", ["rmsprop", "sgd"])
def test_momentum_of_optax_comes_as_is_asked_for(variant):
    run = Optax(variant, {"momentum": 0.9})
    run.step(GRADS[:3])
    inside, outside = (
        from_optax(CLASSES[variant], run.at, start(), lr=0.25, momentum=0.9, step_count=3, lr_in_momentum=into)
        for into in (True, False)
    )
    inside.lr_in_momentum = False
    assert_same_bits(inside.state_dict(), outside.state_dict())


def test_a_negated_momentum_stays_the_same_zero():
    ours = instep.SGD(np.ones(2), lr=LR, momentum=0.9, lr_in_momentum=True)
    ours.state["momentum_buffer"][:] = -0.0, 0.0
    _, values = to_keras(ours)
    assert np.signbit(values[2]).tolist() == [False, True]


@pytest.mark.parametrize(("framework", "convert"), [("Keras", to_keras), ("optax", to_optax)])
@pytest.mark.parametrize("variant", ["sgd", "adam", "adamw"])
def test_one_count_for_all_arrays(framework, convert, variant):
    """Where nothing depends on it, arrays may have been stepped a different number of times."""
    run = FRAMEWORKS[framework.lower()](variant, {})
    ours = here(framework.lower(), variant, start(), {})
    ours.step({"bias": np.ones(4), "layers": [None, None, None]})
    given = (run.at,) if framework == "optax" else ()
    if variant == "sgd":
        convert(ours, *given)
    else:
        with pytest.raises(ValueError, match=f"different number of times, and {framework} has one count"):
            convert(ours, *given)


@pytest.mark.parametrize(
    ("framework", "asked", "given"),
    [
        (framework, asked, given)
        for framework in FRAMEWORKS
        for asked, given in itertools.permutations(dialects()[framework], 2)
        # optax's yogi has the state of its adam, and torch's adamw is an adam
        if not (framework == "optax" and {asked, given} == {"adam", "yogi"})
        and (framework, asked, given) != ("torch", "adam", "adamw")
    ],
)
def test_the_state_of_another_class_is_refused(framework, asked, given):
    run = FRAMEWORKS[framework](given, {})
    run.step(GRADS[:1])
    arguments = {"lr": LR} if framework == "optax" else {}
    begin = {"torch": from_torch, "keras": from_keras, "optax": from_optax}[framework]
    params = start()
    with pytest.raises(ValueError, match=r"not the (state|configuration).* (of|a) .*|no counterpart for"):
        begin(CLASSES[asked], *run.state(), params, **arguments)
    assert flat(params).tobytes() == flat(start()).tobytes()


GARBAGE = [None, 0, "state", [], (), {}, [{}], {"state": {}}, np.ones(3), object()]


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_garbage_is_refused(garbage):
    """And nothing has changed."""
    peer("torch")
    params = start()
    for begin in (
        lambda: from_torch(instep.Adam, garbage, params),
        lambda: from_keras(instep.Adam, garbage, [], params),
        lambda: from_optax(instep.Adam, garbage, params, lr=LR),
    ):
        with pytest.raises(ValueError, match=r"not the (state|configuration)"):
            begin()
    ours = instep.Adam(params)
    walk(ours, params, GRADS[:1])
    before, stepped = ours.state_dict(), flat(params)
    with pytest.raises(ValueError, match="not the state of an optax"):
        to_optax(ours, garbage)
    if garbage is not None:
        with pytest.raises(ValueError, match="like is not the state_dict"):
            to_torch(ours, like=garbage)
    assert_same_bits(before, ours.state_dict())
    assert flat(params).tobytes() == stepped.tobytes()


@pytest.mark.parametrize("begin", [from_torch, from_optax])
@pytest.mark.parametrize("cls", [{}, "adam", Optimizer, dict])
def test_the_class_comes_first(begin, cls):
    with pytest.raises(TypeError, match=rf"the optimizer's class comes first, .* not {re.escape(repr(cls))}"):
        begin(cls, {}, start())


@pytest.mark.parametrize("leave", [to_torch, to_keras, lambda optimizer: to_optax(optimizer, ())])
@pytest.mark.parametrize("optimizer", [None, instep.Adam, "adam", start()])
def test_what_leaves_is_an_optimizer(leave, optimizer):
    peer("torch")
    with pytest.raises(
        TypeError, match=f"^optimizer must be one of instep, not a value of type {type(optimizer).__name__}"
    ):
        leave(optimizer)


def test_a_class_of_the_users_own_goes_on():
    class MyAdam(instep.Adam):
        __slots__ = ()
        eps: float = 0.5
        maximize: bool = True

    ours = MyAdam(start(), maximize=False)
    again = from_keras(MyAdam, *to_keras(instep.Adam.preset("keras", start())), start())
    assert type(again) is MyAdam
    assert again.eps == 1e-7
    assert not again.maximize
    peer("torch")
    assert type(from_torch(MyAdam, to_torch(ours), start())) is MyAdam


# ---- torch ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", dialects()["torch"])
def test_torch_has_parameters_it_has_never_stepped(variant):
    torch = peer("torch")
    options = {"momentum": 0.9} if variant == "sgd" else {}
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    cls = getattr(torch.optim, CLASSES[variant].__name__)
    optimizer = cls([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=LR, **options)
    for _ in range(2):
        parameters[0].grad = parameters[2].grad = torch.ones(2)
        optimizer.step()
    parameters[2].grad = None
    optimizer.step()
    params = [parameter.detach().numpy() for parameter in parameters]
    ours = from_torch(CLASSES[variant], optimizer.state_dict(), params)
    counts = {"0": 1, "1": 0, "2": 1} if variant == "sgd" else {"0": 3, "1": 0, "2": 2}
    assert ours.state_dict()["step_counts"] == counts
    assert ours.step_count == max(counts.values())
    fresh = CLASSES[variant](params, **ours.options).state_dict()["state"]
    for name, arrays in ours.state_dict()["state"].items():
        assert arrays["1"].tobytes() == fresh[name]["1"].tobytes()
    before = [parameter.detach().clone() for parameter in parameters]
    ours.step([np.ones(2, np.float32), None, None])
    assert not torch.equal(parameters[0], before[0])  # the memory is torch's
    assert torch.equal(parameters[1], before[1])


def test_the_first_gradient_is_not_dampened_there_either():
    """So that a parameter that has never been stepped comes to torch without a momentum."""
    torch = peer("torch")
    options = dict(lr=LR, momentum=0.9, dampening=0.5)
    params = [np.ones(2), np.ones(2)]
    ours = instep.SGD(params, **options)
    ours.step([np.ones(2), None])
    parameters = [torch.nn.Parameter(torch.tensor(param)) for param in params]
    theirs = torch.optim.SGD(parameters, **options)
    theirs.load_state_dict(to_torch(ours))
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.ones(2, dtype=torch.float64)
        theirs.step()
        ours.step([np.ones(2), np.ones(2)])
    np.testing.assert_allclose([parameter.detach().numpy() for parameter in parameters], params, rtol=1e-15)


def test_the_count_of_sgd_is_the_callers():
    """For torch's does not count; what has a momentum has been stepped."""
    peer("torch")
    for options, default in ((dict(momentum=0.9), 1), ({}, 0)):
        run = Torch("sgd", options)
        run.step(GRADS[:HALF])
        assert from_torch(instep.SGD, *run.state(), start()).step_count == default
        for count in (7, np.int64(7), np.uint8(7), 7.0):
            ours = from_torch(instep.SGD, *run.state(), start(), step_count=count)
            assert set(ours.state_dict()["step_counts"].values()) == {7}
            assert type(ours.step_count) is int
    run = Torch("sgd", dict(momentum=0.9))
    run.step(GRADS[:1])
    with pytest.raises(ValueError, match="one step at least, not 0"):
        from_torch(instep.SGD, *run.state(), start(), step_count=0)
    for count in (-1, 1.5, "7", np.nan):
        with pytest.raises(ValueError, match="is not a number of steps"):
            from_torch(instep.SGD, *run.state(), start(), step_count=count)


def test_the_others_count_themselves():
    run = Torch("adam", {})
    run.step(GRADS[:3])
    assert from_torch(instep.Adam, *run.state(), start(), step_count=np.int32(3)).step_count == 3
    with pytest.raises(ValueError, match="counts of steps differ: 3, 4"):
        from_torch(instep.Adam, *run.state(), start(), step_count=4)


@pytest.mark.parametrize("variant", ["rmsprop", "sgd", "adam"])
@pytest.mark.parametrize("cut", [1, 2])
def test_torch_goes_on_with_its_groups_and_its_scheduler(variant, cut):
    """Which keeps what it needs in the groups; the learning rate is its to say, and ours to follow."""
    torch = peer("torch")
    options = {} if variant == "adam" else dict(momentum=0.9)

    def make():
        parameters = [torch.nn.Parameter(torch.tensor(leaf)) for leaf in leaves(start())]
        groups = [{"params": parameters[:cut]}, {"params": parameters[cut:], "foreach": False, "of_mine": 1}]
        optimizer = getattr(torch.optim, CLASSES[variant].__name__)(groups, lr=LR, **options)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, 2 * HALF, cycle_momentum=False)
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
    params = [parameter.detach().numpy() for parameter in parameters]
    ours = from_torch(CLASSES[variant], theirs.state_dict(), params)
    ours.step(leaves(nested(GRADS[HALF - 1])))
    before = theirs.state_dict()
    given = to_torch(ours, like=before)
    assert given["param_groups"] == before["param_groups"]
    assert [group.get("of_mine") for group in given["param_groups"]] == [None, 1]
    theirs.load_state_dict(given)
    scheduler.step()
    walk_there(*moved, GRADS[HALF:-1])
    ends = [np.concatenate([np.ravel(parameter.detach()) for parameter in run[0]]) for run in (moved, stayed)]
    assert distance(*(np.array([flat(start()), end]) for end in ends)) <= TOLERANCE


def test_what_is_kept_of_torch_is_of_the_same_optimizer():
    like = torch_state("rmsprop")
    with pytest.raises(ValueError, match="like is the state of 4 parameters, the optimizer's are 2"):
        to_torch(instep.RMSprop(leaves(start())[:2], lr=LR), like=like)
    with pytest.raises(
        ValueError, match=r"like is not the state_dict of a torch\.optim\.Adam: its groups have no betas"
    ):
        to_torch(instep.Adam(start(), lr=LR), like=like)
    with pytest.raises(ValueError, match=r"like is not .* torch\.optim\.AdamW: .* decoupled_weight_decay=False"):
        to_torch(instep.AdamW(start(), lr=LR), like=torch_state("adam"))
    like["param_groups"][0] |= {"capturable": True, "initial_lr": 0.5, "lr": 0.25}
    group = to_torch(instep.RMSprop(start(), lr=0.125), like=like)["param_groups"][0]
    assert (group["capturable"], group["initial_lr"], group["lr"]) == (True, 0.5, 0.125)


def torch_state(variant, change=None, **options):
    run = Torch(variant, options)
    run.step(GRADS[:1])
    state_dict = run.optimizer.state_dict()
    if change:
        change(state_dict)
    return state_dict


def group(state):
    return state["param_groups"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: group(state).pop("maximize"), "groups have no maximize"),  # stable-baselines3
        (lambda state: group(state).update(decoupled_decay=True), "groups have decoupled_decay"),  # timm
        (lambda state: group(state).update(amsgrad=True), "groups have amsgrad"),
        (lambda state: group(state)["params"].pop(), "3 parameters, the optimizer's are 4"),
        (
            lambda state: group(state)["params"].reverse(),
            r"square_avg of 'bias' in the torch RMSprop has shape \(1,\), the parameter \(4,\)",
        ),
        (lambda state: group(state).update(momentum=0.9), "torch RMSprop has no momentum_buffer of 'bias'"),
        (lambda state: group(state).update(alpha=2.0), "rho=2.0"),
        (lambda state: group(state).update(alpha=None), "rho cannot be read from"),
        (
            lambda state: state["state"][0].update(square_avg=state["state"][0]["square_avg"].float()),
            "square_avg of 'bias' in the torch RMSprop is an array of float32, the parameter one of float64",
        ),
        (
            lambda state: state["state"][1].update(square_avg=state["state"][1]["square_avg"].bfloat16()),
            "square_avg of 'layers/0' in the torch RMSprop is an array of bfloat16",
        ),
        (lambda state: state["state"][1].update(square_avg=[0.0]), "is an array of list"),
        (lambda state: state["state"][0]["square_avg"].neg_(), "^the torch RMSprop: .*'square_avg'.*'bias'.* negative"),
        (
            lambda state: state["state"][0].update(step=state["state"][0]["step"] + 1.75),
            "step of 'bias' in the torch RMSprop: 2.75 is not a number of steps",
        ),
        (lambda state: state["state"][3].update(step=np.ones(2)), "step of 'layers/2' .* is not a number of steps"),
        (lambda state: state["state"][0].update(step=float("nan")), "nan is not a number of steps"),
        (lambda state: state["state"][0].update(step=float("inf")), "inf is not a number of steps"),
        (lambda state: state["state"][0].update(step=-1), "-1 is not a number of steps"),
        (lambda state: state["state"][0].pop("step"), "no step of 'bias'"),
        (lambda state: group(state).pop("params"), "groups have no params"),
        (lambda state: group(state).update(params=None), "the params of a group are a NoneType"),
        (lambda state: group(state).update(params=[0, 1, 2, 2]), r"do not name each parameter once: \[0, 1, 2, 2\]"),
        (
            lambda state: group(state).update(params=[0, 1, 2, []]),
            r"do not name each parameter once: \[0, 1, 2, \[\]\]",
        ),
        (lambda state: state.update(param_groups=3), "no param_groups"),
        (lambda state: state["state"].update({0: None}), "the state of 'bias' in the torch RMSprop is a NoneType"),
        (lambda state: state["state"].update({2: [1]}), "the state of 'layers/1' in the torch RMSprop is a list"),
        (
            lambda state: state["state"][0].update(square_avg=state["state"][0]["square_avg"].to_sparse()),
            "square_avg of 'bias' in the torch RMSprop is no array in memory: .*[Ss]parse",
        ),
        (
            lambda state: state["state"][0].update(square_avg=state["state"][0]["square_avg"].to("meta")),
            "square_avg of 'bias' in the torch RMSprop is no array in memory: .*meta",
        ),
        (lambda state: state["param_groups"].clear(), "no param_groups"),
        (lambda state: state.pop("state"), "no state"),
        (lambda state: state.clear(), "no state"),
    ],
)
def test_other_states_of_torch_are_refused(change, message):
    params = start()
    with pytest.raises((TypeError, ValueError), match=message):
        from_torch(instep.RMSprop, torch_state("rmsprop", change), params)
    assert flat(params).tobytes() == flat(start()).tobytes()


@pytest.mark.parametrize("betas", [None, 0.9, (), (0.9,), "x"])
def test_betas_that_are_none_are_refused(betas):
    with pytest.raises(ValueError, match=r"beta[12] "):
        from_torch(instep.Adam, torch_state("adam", lambda state: group(state).update(betas=betas)), start())


def test_a_count_that_torch_does_not_hold_is_refused():
    torch = peer("torch")
    ours = instep.Adam(np.ones(2))
    for taken in (2**24, 2**24 + 1):
        state = ours.state_dict()
        ours.load_state_dict(state | {"step_count": taken, "step_counts": {"": taken}})
        if taken == 2**24:
            assert to_torch(ours)["state"][0]["step"] == torch.tensor(float(taken))
    with pytest.raises(ValueError, match="float32, which does not hold the 16777217 of ''"):
        to_torch(ours)


def test_dampening_without_momentum_is_nothing_in_torch():
    ours = from_torch(instep.SGD, torch_state("sgd", dampening=0.5), start())
    assert ours.dampening == 0


def grouped_torch(cls, lr, decay, of_bias):
    """Weights and biases in groups of their own; the parameters are in the order of the groups."""
    torch = peer("torch")
    parameters = [torch.nn.Parameter(torch.full((2,), k + 1.0)) for k in range(4)]
    groups = [{"params": parameters[:2]}, {"params": parameters[2:], **of_bias}]
    return parameters, cls(groups, lr=lr, weight_decay=decay)


def step_torch(parameters, optimizer):
    for k, parameter in enumerate(parameters):
        parameter.grad = parameter.detach() * 0 + 0.5 - k
    optimizer.step()


@pytest.mark.parametrize("is_like_given", [False, True])
def test_the_groups_of_torch_move_with_their_options(is_like_given):
    torch = peer("torch")
    given = (torch.optim.AdamW, 0.1, 0.25, {"lr": 0.01, "weight_decay": 0.0})
    (parameters, theirs), (stayed, other) = grouped_torch(*given), grouped_torch(*given)
    for run in ((parameters, theirs), (stayed, other)):
        step_torch(*run)
    params = [parameter.detach().numpy() for parameter in parameters]
    ours = from_torch(instep.AdamW, theirs.state_dict(), params)
    changes = {"lr": 0.01, "weight_decay": 0.0}
    assert {pattern: group.changes for pattern, group in ours.groups.items()} == {"2": changes, "3": changes}
    ours.step([parameter.detach().numpy() * 0 + 0.5 - k for k, parameter in enumerate(parameters)])
    before = theirs.state_dict()
    state_dict = to_torch(ours, like=before if is_like_given else None)
    assert [group["lr"] for group in state_dict["param_groups"]] == [0.1, 0.01]
    assert [group["weight_decay"] for group in state_dict["param_groups"]] == [0.25, 0.0]
    theirs.load_state_dict(state_dict)
    step_torch(parameters, theirs)
    for _ in range(2):
        step_torch(stayed, other)
    for here, there in zip(parameters, stayed, strict=True):
        np.testing.assert_allclose(here.detach().numpy(), there.detach().numpy(), rtol=1e-6)


def test_the_groups_of_ours_become_groups_of_torchs():
    """One for each set of options, in the order of their first arrays; the momentum is converted by the lr of each."""
    peer("torch")
    params = {"a": {"b": np.ones(2), "w": np.ones(3)}, "c": {"b": np.ones(4), "w": np.ones(5)}}
    ours = instep.SGD(params, lr=0.5, momentum=0.9, lr_in_momentum=True, groups={"*/b": {"lr": 0.25, "momentum": 0.8}})
    ours.step({key: {name: np.ones_like(array) for name, array in of.items()} for key, of in params.items()})
    found = to_torch(ours)
    assert [(group["params"], group["lr"], group["momentum"]) for group in found["param_groups"]] == [
        ([0, 1], 0.25, 0.8),
        ([2, 3], 0.5, 0.9),
    ]
    assert [len(found["state"][k]["momentum_buffer"]) for k in range(4)] == [2, 4, 3, 5]
    assert all((state["momentum_buffer"] == 1).all() for state in found["state"].values())
    in_order = [params["a"]["b"], params["c"]["b"], params["a"]["w"], params["c"]["w"]]
    again = from_torch(instep.SGD, found, in_order, step_count=1)
    assert to_torch(again)["param_groups"] == found["param_groups"]
    like = found | {"param_groups": [found["param_groups"][0] | {"params": [0, 1, 2, 3]}]}
    with pytest.raises(ValueError, match=r"'a/b' has lr=0\.25 and 'a/w' has 0\.5, but they are in one group of like"):
        to_torch(ours, like=like)


def test_a_group_of_torch_that_needs_other_states_is_refused():
    torch = peer("torch")
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    theirs = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "momentum": 0.9}], lr=LR)
    with pytest.raises(ValueError, match="momentum"):
        from_torch(instep.SGD, theirs.state_dict(), [np.ones(2, np.float32), np.ones(2, np.float32)])


def test_an_empty_group_of_torch_is_left_alone():
    like = torch_state("rmsprop", lambda state: state["param_groups"].append(group(state) | {"lr": 9.0, "params": []}))
    ours = from_torch(instep.RMSprop, like, start())
    assert not ours.groups
    assert to_torch(ours, like=like)["param_groups"][1] == like["param_groups"][1]


def test_an_option_of_a_group_that_torch_lacks_is_refused():
    peer("torch")
    for changes in ({"clip_value": 0.5}, {"eps_root": 0.5}):
        ours = instep.Adam(start(), groups={"layers/*": changes})
        message = rf"^groups\['layers/\*'\]: torch has no Adam with {next(iter(changes))}=0\.5"
        with pytest.raises(ValueError, match=message):
            to_torch(ours)


# ---- Keras ----------------------------------------------------------------------------------------------------------


EMA = ("use_ema", "ema_momentum")


def keras_state(variant="rmsprop", **options):
    return to_keras(here("keras", variant, start(), options))


def test_a_learning_rate_that_was_assigned_later_is_taken():
    config, values = keras_state()
    values[1] = np.float32(0.5)
    assert from_keras(instep.RMSprop, config, values, start()).lr == 0.5


def test_nesterov_without_momentum_is_nothing_in_keras():
    config, values = keras_state("sgd")
    assert not from_keras(instep.SGD, config | {"nesterov": True}, values, start()).nesterov


def test_only_an_adamw_of_keras_has_no_none_for_its_weight_decay():
    assert keras_state("adam")[0]["weight_decay"] is None
    assert keras_state("adamw", weight_decay=0.0)[0]["weight_decay"] == 0.0
    config, values = keras_state("adamw")
    assert from_keras(instep.AdamW, config | {"weight_decay": None}, values, start()).weight_decay == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(use_ema=True, ema_momentum=0.9), r"6 variables; .* needs 10: .*, and average, velocity of 4 parameters"),
        (dict(use_ema=True, ema_momentum=0), "ema_momentum=0 of the Keras RMSprop: its averages are the parameters"),
        (dict(use_ema=True, ema_momentum=1.0), "average_decay=1.0 must be in"),
        (dict(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3), "no option for ema_overwrite_frequency=3"),
        (dict(gradient_accumulation_steps=2), "no option for gradient_accumulation_steps=2 .*: call accumulate with"),
        (dict(loss_scale_factor=0.0), "loss_scale_factor=0.0 of the Keras RMSprop must be greater than 0"),
        (dict(clipnorm=1.0, clipvalue=1.0), "clip_value=1.0 does not go with another way to clip"),
        (dict(clipnorm=-1.0), "clip_norm=-1.0 must not be negative"),
        (dict(momentum_of_mine=1.0), "no counterpart for momentum_of_mine=1.0 of Keras"),
        (dict(learning_rate={"class_name": "ExponentialDecay"}), "schedule"),
        (dict(momentum=0.9), "6 variables; a Keras RMSprop needs 10: .* velocity, momentum of 4 parameters"),
        (dict(rho=5.0), "rho=5.0"),
        (dict(name="adam_1"), "its name is adam_1"),
    ],
    ids=str,
)
def test_other_configurations_of_keras_are_refused(changes, message):
    config, values = keras_state()
    assert from_keras(instep.RMSprop, config | {"name": "rm_sprop_12"}, values, start()).step_count == 0
    with pytest.raises(ValueError, match=message):
        from_keras(instep.RMSprop, config | changes, values, start())


@pytest.mark.parametrize("variant", dialects()["keras"])
def test_what_surrounds_a_rule_of_keras_has_its_names_here(variant):
    """Bounds, scale and average both ways; what Keras makes no use of, an average without `use_ema` say, is nothing."""
    cls = CLASSES[variant]
    config, values = keras_state(variant, clip_norm=0.5, grad_scale=2**-10, average_decay=0.75)
    expected = dict(clipnorm=0.5, clipvalue=None, global_clipnorm=None, loss_scale_factor=1024)
    assert expected | dict(use_ema=True, ema_momentum=0.75) == {key: config[key] for key in [*expected, *EMA]}
    again = from_keras(cls, config, values, start())
    assert (again.clip_norm, again.grad_scale, again.average_decay) == (0.5, 2**-10, 0.75)
    config, values = keras_state(variant)
    assert not {*EMA, "loss_scale_factor"}.intersection(config)
    harmless = dict(use_ema=False, ema_momentum=0.9, ema_overwrite_frequency=3, clipnorm=0.0, loss_scale_factor=None)
    again = from_keras(cls, config | harmless, values, start())
    assert again.options == from_keras(cls, config, values, start()).options


@pytest.mark.parametrize("variant", dialects()["keras"])
def test_the_averages_of_keras_go_on(variant):
    """There, here and there again, beside all there; those that have not begun are the parameters."""
    options = dict(average_decay=0.75)
    stayed = Keras(variant, options)
    fresh = stayed.leave(start())
    assert_same_bits(fresh.state_dict(), here("keras", variant, start(), options).state_dict())
    stayed.step(GRADS[:HALF])
    params = nested(np.concatenate(list(map(stayed.values, stayed.variables))))
    ours = stayed.leave(params)
    walk(ours, params, GRADS[HALF:-1])
    back = Keras(variant, options, params, ours)
    for run, rows in (stayed, GRADS[HALF:]), (back, GRADS[-1:]):
        run.step(rows)
    averages = [map(run.values, run.optimizer.variables[2:6]) for run in (stayed, back)]
    for average, other, variable in zip(*averages, stayed.variables, strict=True):
        assert np.abs(average - other).max() <= TOLERANCE
        assert np.abs(average - stayed.values(variable)).max() > 1e-6


def test_an_average_needs_one_count_in_keras():
    """It begins with an array's own first step here, with that of all there."""
    ours = here("keras", "sgd", start(), dict(average_decay=0.5))
    ours.step({"bias": np.ones(4), "layers": [None, None, None]})
    with pytest.raises(ValueError, match="Keras has one count for all"):
        to_keras(ours)


def test_other_variables_of_keras_are_refused():
    config, values = keras_state()
    for name in ("rho", "centered", "momentum"):
        with pytest.raises(ValueError, match=f"not the configuration of a keras.optimizers.RMSprop: it has no {name}"):
            from_keras(instep.RMSprop, {key: value for key, value in config.items() if key != name}, values, start())
    for length in range(len(values)):
        with pytest.raises(ValueError, match="needs 6"):
            from_keras(instep.RMSprop, config, values[:length], start())
    with pytest.raises(ValueError, match=r"velocity of 'bias' in the Keras RMSprop has shape \(1,\)"):
        from_keras(instep.RMSprop, config, values[:2] + values[:1:-1], start())
    for place, value, message in (
        (0, np.array(1.5), r"iteration in the Keras RMSprop: 1\.5 is not a number of steps"),
        (0, np.ones(2), r"iteration in the Keras RMSprop: .* is not a number of steps"),
        (1, np.array(-1.0), r"learning_rate of the Keras RMSprop: lr=-1\.0 must not be negative"),
        (1, np.ones(2), "learning_rate of the Keras RMSprop: lr must be a real number"),
        (2, -np.ones(4), "the Keras RMSprop: .*'square_avg'.*'bias'.* negative"),
    ):
        changed = [*values]
        changed[place] = value
        with pytest.raises(ValueError, match=f"^{message}"):
            from_keras(instep.RMSprop, config, changed, start())
    for none in (None, 3):
        with pytest.raises(ValueError, match=f"not the variables of a Keras RMSprop, but a {type(none).__name__}"):
            from_keras(instep.RMSprop, config, none, start())
    again = from_keras(instep.RMSprop, config, (value for value in values), start())
    assert_same_bits(again.state_dict(), from_keras(instep.RMSprop, config, values, start()).state_dict())


# ---- optax ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "options", "given", "message"),
    [
        ("rmsprop", {}, dict(momentum=0.9), "has nu, the options of RMSprop need nu, trace"),
        ("rmsprop", dict(momentum=0.9), {}, "has nu, trace, the options of RMSprop need nu"),
        ("sgd", {}, dict(momentum=0.9), "has no arrays, the options of SGD need trace"),
        ("rmsprop", dict(centered=True), {}, "has mu, nu, "),
        ("adam", dict(amsgrad=True), {}, "has mu, nu, nu_max, the options of Adam need mu, nu"),
        ("adam", {}, dict(amsgrad=True), "has mu, nu, the options of Adam need mu, nu, nu_max"),
        ("rmsprop", dict(bias_correction=True), dict(bias_correction=True, step_count=7), "counts of steps differ"),
        ("adam", {}, dict(step_count=7), "counts of steps differ: 0, 7"),
        ("adam", dict(amsgrad=True), dict(amsgrad=True, nesterov=True), "optax has no Adam with amsgrad=True and"),
        ("adam", {}, dict(maximize=True), "optax has no Adam with maximize=True"),
        ("rmsprop", {}, dict(rho=1.0), "rho=1.0"),
        ("rmsprop", {}, dict(step_count=0.5), "^step_count: 0.5 is not a number of steps"),
    ],
    ids=str,
)
def test_other_states_of_optax_are_refused(variant, options, given, message):
    run = Optax(variant, options)
    with pytest.raises(ValueError, match=message):
        from_optax(CLASSES[variant], run.at, start(), **{"lr": LR, "step_count": 0} | given)


def test_another_nesting_is_refused():
    run = Optax("rmsprop", {})
    with pytest.raises(ValueError, match="nu of the optax state has another nesting"):
        from_optax(instep.RMSprop, run.at, leaves(start()), lr=LR, step_count=0)
    with pytest.raises(ValueError, match="nu of the optax state has another nesting"):
        to_optax(here("optax", "rmsprop", leaves(start()), {}), run.at)
    with pytest.raises(ValueError, match="the optax state has nu, trace, the options of RMSprop need nu"):
        to_optax(here("optax", "rmsprop", start(), {}), Optax("rmsprop", {"momentum": 0.9}).at)


def test_a_state_over_other_arrays_is_refused():
    """By its shapes and dtypes, before its own are replaced."""
    run = Optax("rmsprop", {})
    with pytest.raises(ValueError, match=r"nu of 'bias' in the optax RMSprop has shape \(4,\), the parameter \(3,\)"):
        to_optax(here("optax", "rmsprop", start() | {"bias": np.ones(3)}, {}), run.at)
    ours = here("optax", "rmsprop", start() | {"bias": np.ones(4, np.float32)}, {})
    with pytest.raises(
        ValueError, match="nu of 'bias' in the optax RMSprop is an array of float64, the parameter one of"
    ):
        to_optax(ours, run.at)


def test_an_optax_state_that_does_not_count_needs_a_count():
    with pytest.raises(TypeError, match="step_count"):
        from_optax(instep.RMSprop, Optax("rmsprop", {}).at, start(), lr=LR)
    with pytest.raises(TypeError, match="lr"):
        from_optax(instep.RMSprop, Optax("rmsprop", {}).at, start(), step_count=1)


def test_options_may_be_given_in_the_words_of_optax():
    state = Optax("rmsprop", dict(momentum=0.9)).at
    ours = from_optax(instep.RMSprop, state, start(), learning_rate=0.5, decay=0.75, momentum=0.9, step_count=0)
    assert (ours.lr, ours.rho, ours.momentum) == (0.5, 0.75, 0.9)


def test_other_transforms_of_optax_are_refused():
    optax = peer("optax")
    for cls, state in (
        (instep.RMSprop, optax.adam(LR).init({}) + optax.rmsprop(LR).init({})),
        (instep.RMSprop, optax.multi_transform({}, {}).init({})),
        (instep.RMSprop, optax.chain(optax.ema(0.9), optax.rmsprop(LR)).init({})),
        (instep.RMSprop, [*optax.rmsprop(LR).init({})]),
        (instep.Adam, optax.adabelief(LR).init({})),
        (instep.Adam, optax.novograd(LR).init({})),
        (instep.AdamW, optax.adamw(LR, mask={}).init({})),
        (instep.SGD, optax.noisy_sgd(LR, key=0).init({})),
    ):
        with pytest.raises(ValueError, match=rf"not the state of an optax\.{cls.__name__.lower()}"):
            from_optax(cls, state, start(), lr=LR, step_count=1)


def test_a_count_that_optax_does_not_hold_is_refused():
    ours = here("optax", "adam", start(), {})
    state = ours.state_dict()
    ours.load_state_dict(state | {"step_count": 2**31, "step_counts": dict.fromkeys(state["step_counts"], 2**31)})
    with pytest.raises(ValueError, match="int32, which does not hold 2147483648"):
        to_optax(ours, Optax("adam", {}).at)


# ---- groups, and what has fewer bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", ["keras", "optax"])
def test_groups_do_not_go_where_there_are_none(framework):
    peer(framework if framework != "keras" else "torch")
    ours = here(framework, "rmsprop", start(), {}, groups={"layers/*": {"lr": 0.5}})
    called = {"keras": "Keras"}.get(framework, framework)
    with pytest.raises(
        ValueError, match=rf"^groups\['layers/\*'\] has lr=0\.5, the others 0\.01, and {called} has one"
    ):
        to_anything(framework, "rmsprop", ours)
    ours.groups["layers/*"].lr = LR  # as all others
    to_anything(framework, "rmsprop", ours)


def in_few_bits(dtype, **storage):
    params = {
        "b": np.linspace(-1, 1, 300, dtype=np.float32).astype(dtype),
        "w": np.asfortranarray(np.ones((3, 5), dtype)),
    }
    ours = instep.Adam.preset("keras", params, lr=LR, **storage)
    ours.step({name: np.asarray(param * np.float32(0.1), np.float32, order="K") for name, param in params.items()})
    return ours


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
@pytest.mark.parametrize("to", [to_torch, to_keras, to_optax])
def test_states_of_fewer_bits_leave_as_the_numbers_that_they_are(state_dtype, to):
    torch, jax = peer("torch"), peer("jax")
    ours = in_few_bits(np.float32, state_dtype=state_dtype)
    if to is to_torch:
        ours.eps_hat = False
        state = to(ours)["state"]
        found = {"grad_avg": state[1]["exp_avg"].numpy(), "square_avg": state[1]["exp_avg_sq"].numpy()}
        assert torch.is_tensor(state[0]["exp_avg"])
    elif to is to_keras:
        _, values = to(ours)
        found = {"grad_avg": values[4], "square_avg": values[5]}
    else:
        ours.eps_hat = False
        link = to(ours, optax_optimizer("adam", {}).init(jax.tree.map(jax.numpy.asarray, ours.params)))[0]
        found = {"grad_avg": link.mu["w"], "square_avg": link.nu["w"]}
    for name, form in (("grad_avg", instep.storage.SIGNED_BYTE), ("square_avg", instep.storage.BYTE)):
        stored = ours.state[name]["w"]
        if state_dtype == "8bit":
            expected = instep.storage.from_bytes(form, stored.view(np.uint8), 15).reshape(3, 5, order="F")
        else:
            expected = stored.astype(np.float32)
        assert found[name].dtype == np.float32
        assert found[name].tobytes() == expected.tobytes()
        assert 0 < abs(expected).max() < 1


@pytest.mark.parametrize("called", ["bfloat16", "float16"])
def test_states_of_16_bits_come_from_torch_as_the_numbers_that_they_are(called):
    torch = peer("torch")
    parameters = [
        torch.nn.Parameter(torch.ones(2, 3, dtype=getattr(torch, called)).t()),
        torch.nn.Parameter(torch.ones(3)),
    ]
    theirs = torch.optim.Adam(parameters, lr=LR)
    parameters[0].grad = torch.arange(6, dtype=getattr(torch, called)).reshape(3, 2) / 7
    parameters[1].grad = torch.ones(3)
    theirs.step()
    params = [np.ones((3, 2), pytest.importorskip("ml_dtypes").bfloat16 if called == "bfloat16" else called)]
    params += [np.ones(3, np.float32)]
    ours = from_torch(instep.Adam, theirs.state_dict(), params)
    state = theirs.state_dict()["state"][0]
    for name, theirs_name in (("grad_avg", "exp_avg"), ("square_avg", "exp_avg_sq")):
        assert ours.state[name][0].dtype == np.float32
        np.testing.assert_array_equal(ours.state[name][0], state[theirs_name].float().numpy())
    assert ours.state["grad_avg"][0].any()
    assert_same_bits(from_torch(instep.Adam, to_torch(ours), params).state_dict(), ours.state_dict())


@pytest.mark.parametrize("master", ["split", "float32"])
def test_the_bits_of_a_master_are_not_lost_silently(master):
    peer("torch")
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    name = {"split": "param_low", "float32": "param_master"}[master]
    for to in (to_torch, to_keras, lambda ours: to_optax(ours, ())):
        with pytest.raises(
            ValueError, match=rf"has no master='{master}': what 'b' has in state\['{name}'\] .* be lost"
        ):
            to(in_few_bits(bfloat16, master=master))
    to_keras(in_few_bits(np.float32, master=master))  # which are their own masters


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
            back = from_torch(instep.RMSprop, found, np.ones(4))
        assert left.control == control
        for name, tensor in theirs.items():
            assert found["state"][0][name].numpy().tobytes() == tensor.numpy().tobytes()
        for name, array in moved.state.items():
            assert again.state[name].tobytes() == array.tobytes()
        assert_same_bits(from_torch(instep.RMSprop, to_torch(diverged()), np.ones(4)).state_dict(), back.state_dict())
    assert not torch.isnan(theirs["momentum_buffer"][0])


@pytest.mark.parametrize("cls", [instep.RMSprop, instep.SGD])
@pytest.mark.parametrize(
    ("lr", "into", "message"),
    [
        (1e-50, True, r"lr is 0 in float32 \(lr=1e-50\)"),
        (1e-50, False, r"lr is 0 in float32 \(lr=1e-50\)"),
        (1e-40, False, r"divided by lr=1e-40 overflows float32"),
        (1e38, True, r"multiplied by lr=1e\+38 overflows float32"),
    ],
)
def test_a_momentum_that_cannot_be_converted_is_refused(cls, lr, into, message):
    """Rather than become infinite, or a NaN where it is 0."""
    options = dict(lr=lr, momentum=0.9, lr_in_momentum=not into)
    if cls is instep.RMSprop:
        options["eps_inside"] = into
    optimizer = cls({"w": np.ones(3, np.float32)}, **options)
    optimizer.state["momentum_buffer"]["w"][:] = 0, 10, np.inf
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.lr_in_momentum = into
    np.testing.assert_equal(optimizer.state_dict(), before)
    if not into:
        peer("torch")
    with pytest.raises(ValueError, match=f"momentum_buffer of 'w' .* {cls.__name__} .*{message}"):
        (to_keras if into else to_torch)(optimizer)
    np.testing.assert_equal(optimizer.state_dict(), before)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_infinite_momentum_stays_infinite(value):
    optimizer = instep.RMSprop(np.ones(2), lr=0.25, momentum=0.9)
    optimizer.state["momentum_buffer"][:] = value, 1
    optimizer.lr_in_momentum = True
    np.testing.assert_equal(optimizer.state["momentum_buffer"], [value, 0.25])


def test_no_framework_is_imported():
    script = "import sys, instep; print(not {'torch', 'keras', 'jax', 'optax', 'safetensors'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout == b"True\n"
