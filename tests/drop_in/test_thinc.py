"""instep.thinc beside thinc's own Adam: values, schedules, averages, the catalogue, arrays from elsewhere."""

import copy
import importlib
import pickle

import numpy as np
import pytest

import instep
from another_process import python
from peers import peer

peer("thinc")
api = importlib.import_module("thinc.api")
Adam = importlib.import_module("instep.thinc").Adam

SHAPES = {"W": (5, 7), "b": (3,), "one": (1,), "kernel": (2, 3, 4)}
OPTIONS = {
    "defaults": {},
    "no averages": {"use_averages": False},
    "no clipping": {"grad_clip": 0.0},
    "weight decay": {"L2": 0.1},
    "L2 in the gradient": {"L2": 0.1, "L2_is_weight_decay": False},
    "other numbers": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3},
    "scaled": {},
    "a list of rates": {"learn_rate": [0.1, 0.01, 0.3]},
    "a schedule": {"learn_rate": lambda: api.warmup_linear(0.1, 3, 9)},
    "a generator": {"beta1": lambda: (1 - 0.5**k for k in range(1, 9))},
}


def made(cls, options):
    return cls(**{name: value() if callable(value) else value for name, value in options.items()})


def train(optimizer, lr_scale=1.0, steps=8):
    """The weights after these steps."""
    random = np.random.default_rng(1)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    for _ in range(steps):
        for name, array in weights.items():
            gradient = random.normal(size=array.shape).astype(np.float32)
            weights[name], gradient = optimizer((1, name), array, gradient, lr_scale=lr_scale)
            assert not gradient.any()
            assert np.shares_memory(weights[name], array)
        optimizer.step_schedules()
    return weights


@pytest.mark.parametrize("name", OPTIONS)
def test_as_thinc(name):
    """To what thinc loses when it takes beta2 in float32: 5e-5 of 1 - beta2, half of that in the root."""
    theirs, ours = made(api.Adam, OPTIONS[name]), made(Adam, OPTIONS[name])
    lr_scale = 0.25 if name == "scaled" else 1.0
    expected, found = train(theirs, lr_scale), train(ours, lr_scale)
    start = train(ours, steps=0)
    for key, array in expected.items():
        moved = abs(array - start[key]).max()
        assert moved > 0
        assert abs(found[key] - array).max() < 1e-4 * moved + 1e-6
    assert (theirs.averages is None) == (ours.averages is None)
    for key, average in (theirs.averages or {}).items():
        np.testing.assert_allclose(ours.averages[key], average, rtol=1e-4, atol=1e-5)
    assert ours.nr_update == theirs.nr_update
    assert ours.step == theirs.step


def test_the_bits_of_the_formula():
    optimizer = Adam(0.1, grad_clip=0.0, use_averages=False)
    found = train(optimizer)
    random = np.random.default_rng(1)
    params = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    opt = instep.Adam(params, lr=0.1, eps_hat=True)
    for _ in range(8):
        opt.step({name: random.normal(size=array.shape).astype(np.float32) for name, array in params.items()})
    for name, array in params.items():
        assert found[name].tobytes() == array.tobytes()


def test_a_model_of_thinc_learns_and_has_averages():
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 4)).astype(np.float32)
    y = (x @ random.normal(size=(4, 2)).astype(np.float32)).astype(np.float32)
    model = api.Linear(2, 4).initialize(x, y)
    optimizer = Adam(0.1)

    def loss():
        return float(((model.predict(x) - y) ** 2).mean())

    before = loss()
    for _ in range(60):
        prediction, backward = model.begin_update(x)
        backward((prediction - y) / len(x))
        model.finish_update(optimizer)
        optimizer.step_schedules()
    after = loss()
    assert after < before / 10
    with model.use_params(optimizer.averages):
        assert loss() != after
    assert loss() == after


def test_stands_in_the_catalogue():
    config = api.Config().from_str('[optimizer]\n@optimizers = "instep.Adam.v1"\nlearn_rate = 0.5\nL2 = 0.25\n')
    optimizer = api.registry.resolve(config)["optimizer"]
    assert type(optimizer) is Adam
    assert optimizer.learn_rate(0) == 0.5
    assert optimizer.L2(0) == 0.25
    with pytest.raises(api.ConfigValidationError, match="rate"):
        api.registry.resolve(api.Config().from_str('[optimizer]\n@optimizers = "instep.Adam.v1"\nrate = 0.5\n'))


def test_a_copy_goes_on_alike():
    optimizer = Adam(0.1)
    train(optimizer, steps=3)
    expected = train(copy.deepcopy(optimizer))
    found = train(pickle.loads(pickle.dumps(optimizer)))
    for name, array in train(optimizer).items():
        assert array.tobytes() == expected[name].tobytes() == found[name].tobytes()


def test_a_gradient_that_is_not_finite_is_zeroed_as_well():
    gradient = np.array([np.nan, np.inf, 1], np.float32)
    _, gradient = Adam(0.1, grad_clip=0.0)((1, "W"), np.ones(3, np.float32), gradient)
    assert not gradient.any()


@pytest.mark.filterwarnings(
    "ignore::FutureWarning:thinc", "ignore:.*cuda.amp:FutureWarning"
)  # of thinc beside torch 2.13
def test_weights_of_a_shim_are_stepped_where_they_lie():
    torch = peer("torch")
    layer = torch.nn.Linear(3, 2)
    model = api.PyTorchWrapper(layer)
    x = np.ones((4, 3), np.float32)
    where, before = layer.weight.data_ptr(), layer.weight.detach().clone()
    y, backward = model.begin_update(x)
    backward(np.ones_like(y))
    model.finish_update(Adam(0.1))
    assert layer.weight.data_ptr() == where
    assert (layer.weight != before).all()


def test_arrays_of_another_kind_are_left_to_thinc():
    class Device:
        """An array of an array module that has no NumPy arrays."""

        shape = (2,)
        size = 2

    asked = []

    class Ops:
        def reshape1f(self, array, size):
            return array

        reshape_f = reshape1f

        def alloc1f(self, size):
            return size

        def adam(self, *arguments):
            asked.append(arguments)
            return arguments[:4]

    Adam(0.1)._adam(Ops(), Device(), Device(), 1.0, (1, "W"), 1)
    assert len(asked) == 1


def test_a_number_out_of_its_range_is_refused_and_nothing_changes():
    weights = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="eps"):
        Adam(0.1, eps=0.0)((1, "W"), weights, np.ones(3, np.float32))
    assert (weights == 1).all()


def test_a_step_that_is_refused_does_not_count():
    """Or the bias correction of the next ones would be that of a later step."""
    optimizer, undisturbed = Adam(0.1), Adam(0.1)
    weights, expected = np.ones(3, np.float32), np.ones(3, np.float32)
    for k in range(3):
        rates, optimizer.learn_rate = optimizer.learn_rate, api.constant(-1.0)
        with pytest.raises(ValueError, match="lr=-1"):
            optimizer((1, "W"), weights, np.ones(3, np.float32))
        optimizer.learn_rate = rates
        for each, array in ((optimizer, weights), (undisturbed, expected)):
            each((1, "W"), array, np.full(3, k + 1, np.float32))
        assert weights.tobytes() == expected.tobytes()
        assert optimizer.averages[1, "W"].tobytes() == undisturbed.averages[1, "W"].tobytes()
    assert optimizer.nr_update == undisturbed.nr_update


@pytest.mark.parametrize("other", ["float64", "float16", ">f4"])
def test_weights_of_another_dtype_are_named(other):
    optimizer = Adam(0.1)
    with pytest.raises(TypeError, match=f"weights must be float32, not {other}"):
        optimizer((1, "W"), np.ones(3, other), np.ones(3, other))
    assert not optimizer.nr_update[1, "W"]


def step_of(cls, kind):
    weights = np.ones(6, np.float32)[:: 2 if kind == "with gaps" else 1]
    gradient = weights if kind == "in the weights" else np.ones(weights.shape, np.float32)
    weights.flags.writeable = kind != "read-only"
    cls(0.1, grad_clip=0.0)((1, "W"), weights, gradient)


@pytest.mark.parametrize(
    ("kind", "said"), [("with gaps", "contiguous"), ("in the weights", "overlaps"), ("read-only", "read-only")]
)
def test_arrays_that_thinc_takes_and_instep_refuses(kind, said):
    """The kinds that the documentation names."""
    step_of(api.Adam, kind)
    with pytest.raises(ValueError, match=said):
        step_of(Adam, kind)


def test_the_extra_is_named_where_thinc_is_missing():
    script = """
        import sys
        sys.modules["thinc"] = None
        try:
            import instep.thinc
        except ModuleNotFoundError as error:
            print(error)
    """
    assert "pip install thinc (the extra thinc)" in python(script)
