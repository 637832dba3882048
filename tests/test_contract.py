"""What a call takes and what it refuses, and that a refused call changes nothing (promises 8 to 12)."""

import collections
import copy
import hashlib
import inspect
import pickle
import subprocess
import sys
from fractions import Fraction
from itertools import chain

import numpy as np
import pytest

import instep
from buffers import BUFFERS, COPIED, IN_PLACE, Refused
from instep import RMSprop, _core
from instep._core import Options
from memory_window import WINDOW, window
from trials import CLASSES, assert_same_bits, combinations, expected, function, one_of_each_loop, states_of

# ---- the table of buffers ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def quiet_imports():
    """What other libraries warn of while they are imported is theirs."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def partner(buffer, value=0.5):
    """An array that goes with a parameter."""
    if isinstance(buffer, np.ndarray) and buffer.dtype in (np.float32, np.float64):
        return np.full_like(np.asarray(buffer), value, dtype=buffer.dtype.newbyteorder("="))
    return np.full((2, 3), value, np.float32)


def plain_copy(array):
    return np.array(array, order="K", subok=False)


def as_param_of_function(buffer):
    arrays = dict(param=buffer, grad=partner(buffer), square_avg=partner(buffer, 0.25))
    return arrays, lambda: instep.rmsprop(**arrays)


def as_param_of_class(buffer):
    arrays = dict(param=buffer, grad=partner(buffer), square_avg=partner(buffer, 0))

    def call():
        optimizer = RMSprop({"w": buffer})
        optimizer.step({"w": arrays["grad"]})
        arrays["square_avg"] = optimizer.state["square_avg"]["w"]

    return arrays, call


def as_grad_of_function(buffer):
    arrays = dict(param=partner(None), grad=buffer, square_avg=partner(None, 0.25))
    return arrays, lambda: instep.rmsprop(**arrays)


def as_grad_of(method):
    def door(buffer):
        arrays = dict(param=partner(None), grad=buffer)
        optimizer = RMSprop({"w": arrays["param"]})
        arrays["square_avg"] = optimizer.state["square_avg"]["w"]

        def call():
            if method == "bind":
                optimizer.bind({"w": buffer})
                optimizer.step()
            elif method == "step_one":
                optimizer.step_one("w", buffer)
            else:
                optimizer.step({"w": buffer})

        return arrays, call

    return door


def as_state_of_function(buffer):
    arrays = dict(param=partner(None), grad=partner(None), square_avg=buffer)
    return arrays, lambda: instep.rmsprop(**arrays)


DOORS = [
    ("param", "function", as_param_of_function),
    ("param", "class", as_param_of_class),
    ("grad", "function", as_grad_of_function),
    ("grad", "step", as_grad_of("step")),
    ("grad", "step_one", as_grad_of("step_one")),
    ("grad", "bind", as_grad_of("bind")),
    ("state", "function", as_state_of_function),
]


def outcome(buffer, role, door):
    """The table's cell, and what this door makes of it."""
    cell = getattr(buffer, role)
    if role == "grad" and buffer.kind == "None" and door in ("step", "bind"):
        return Refused(ValueError, "every gradient is None")
    if role == "param" and buffer.kind == "nested lists of numbers" and door == "class":
        return Refused(TypeError, r"params\['w'\]\[0\]\[0\] must be a numpy.ndarray")
    if cell == COPIED and door == "bind":
        return Refused(ValueError, "bind a contiguous array")
    return cell


@pytest.mark.parametrize("buffer", BUFFERS, ids=lambda buffer: buffer.kind)
@pytest.mark.parametrize(("role", "door", "make_call"), DOORS, ids=[f"{role} of {door}" for role, door, _ in DOORS])
def test_buffer(buffer, role, door, make_call, tmp_path):
    cell = outcome(buffer, role, door)
    arrays, call = make_call(buffer.make(tmp_path))
    if isinstance(cell, Refused):
        with pytest.raises(cell.error, match=cell.words):
            call()
        return
    assert cell in (IN_PLACE, COPIED)
    before = {name: plain_copy(array) for name, array in arrays.items()}
    after = expected("rmsprop", Options("rmsprop").values(), before)
    call()
    assert_same_bits({name: np.asarray(array) for name, array in arrays.items()}, after)


def test_the_table_is_large_enough():
    assert len(BUFFERS) >= 30
    assert len({buffer.kind for buffer in BUFFERS}) == len(BUFFERS)


def test_matrix_is_refused(tmp_path):
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0]])
    with pytest.raises(TypeError, match=r"must be a numpy\.ndarray"):
        instep.rmsprop(matrix, np.ones((1, 2)), np.ones((1, 2)))


def test_a_write_to_a_map_reaches_the_file(tmp_path):
    array = np.memmap(tmp_path / "map", np.float32, "w+", shape=(5,))
    RMSprop([array]).step([np.ones(5, np.float32)])
    array.flush()
    assert np.fromfile(tmp_path / "map", np.float32).tobytes() == array.tobytes()
    assert (array != 0).all()


# ---- a rejected call changes nothing ----------------------------------------------------------------------------

POSITIONS = [0, 2, 4]
STEP_DOORS = ["step", "bind"]


class Five:
    """Five parameters, their states and gradients, one step taken, in one block of memory to alias."""

    def __init__(self):
        random = np.random.default_rng(1)
        self.params = [random.standard_normal((2, 3)).astype(np.float32) for _ in range(5)]
        self.grads = [random.standard_normal((2, 3)).astype(np.float32) for _ in range(5)]
        self.optimizer = RMSprop(self.params, momentum=0.9, weight_decay=0.1, bias_correction=True)
        self.optimizer.step(self.grads)
        self.optimizer.step_one(1, self.grads[1])

    def fingerprint(self):
        options, states, step_count, counts = self.optimizer._snapshot()
        digest = hashlib.sha256()
        for array in [*self.params, *self.grads, *chain(*states.values())]:
            digest.update(array.tobytes())
        return digest.digest(), options.values(), step_count, counts, list(states)


def with_grad(make):
    """The gradients with a bad one at k."""

    def grads(five, k, directory):
        given = list(five.grads)
        given[k] = make(five, k, directory)
        return given

    return grads


BAD_GRADS = {
    **{
        buffer.kind: with_grad(lambda five, k, directory, buffer=buffer: buffer.make(directory))
        for buffer in BUFFERS
        if isinstance(buffer.grad, Refused) and buffer.kind != "None"
    },
    "its parameter": with_grad(lambda five, k, directory: five.params[k]),
    "another parameter": with_grad(lambda five, k, directory: five.params[(k + 1) % 5]),
    "view of its parameter": with_grad(lambda five, k, directory: five.params[k][:]),
    "read-only view of its parameter": with_grad(lambda five, k, directory: np.broadcast_to(five.params[k], (2, 3))),
    "its average": with_grad(lambda five, k, directory: five.optimizer.state["square_avg"][k]),
    "another's average": with_grad(lambda five, k, directory: five.optimizer.state["square_avg"][(k + 2) % 5]),
    "its momentum": with_grad(lambda five, k, directory: five.optimizer.state["momentum_buffer"][k]),
    "another's momentum": with_grad(lambda five, k, directory: five.optimizer.state["momentum_buffer"][(k + 2) % 5]),
    "one element more": with_grad(lambda five, k, directory: np.ones((2, 4), np.float32)),
    "one row less": with_grad(lambda five, k, directory: np.ones((1, 3), np.float32)),
    "one dimension more": with_grad(lambda five, k, directory: np.ones((1, 2, 3), np.float32)),
    "a list of it": with_grad(lambda five, k, directory: [five.grads[k]]),
    "a dict of it": with_grad(lambda five, k, directory: {"grad": five.grads[k]}),
    "an optimizer": with_grad(lambda five, k, directory: five.optimizer),
    "left out": lambda five, k, directory: five.grads[:k] + five.grads[k + 1 :],
    "given twice": lambda five, k, directory: five.grads[: k + 1] + five.grads[k:],
    "in a dict": lambda five, k, directory: dict(enumerate(five.grads)),
    "in a set of numbers": lambda five, k, directory: {1, 2, 3, 4, 5},
    "in an array": lambda five, k, directory: np.array(five.grads),
    "in a generator": lambda five, k, directory: (grad for grad in five.grads),
    "in an iterator": lambda five, k, directory: iter(five.grads),
    "nothing": lambda five, k, directory: [],
}


@pytest.mark.parametrize("k", POSITIONS)
@pytest.mark.parametrize("door", STEP_DOORS)
@pytest.mark.parametrize("kind", BAD_GRADS)
def test_a_rejected_gradient_changes_nothing(kind, door, k, tmp_path):
    five = Five()
    grads = BAD_GRADS[kind](five, k, tmp_path)
    before = five.fingerprint()
    with pytest.raises((TypeError, ValueError)) as raised:
        getattr(five.optimizer, door)(grads)
    assert five.fingerprint() == before
    assert "grads" in str(raised.value)
    if isinstance(grads, list) and len(grads) == 5:
        assert f"grads[{k}]" in str(raised.value)
    five.optimizer.step(five.grads)  # and it goes on as if nothing had been
    other = Five()
    other.optimizer.step(other.grads)
    assert five.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("k", POSITIONS)
@pytest.mark.parametrize(
    "kind", [kind for kind, make in BAD_GRADS.items() if make.__qualname__.startswith("with_grad")]
)
def test_a_rejected_gradient_of_one_array_changes_nothing(kind, k, tmp_path):
    five = Five()
    grad = BAD_GRADS[kind](five, k, tmp_path)[k]
    before = five.fingerprint()
    with pytest.raises((TypeError, ValueError), match=rf"grads?\[{k}\]"):
        five.optimizer.step_one(k, grad)
    assert five.fingerprint() == before


@pytest.mark.parametrize("key", [5, -1, "w", (0, 0), None, 0.5, (), [0]])
def test_a_key_without_an_array_changes_nothing(key):
    five = Five()
    before = five.fingerprint()
    with pytest.raises((KeyError, TypeError)):
        five.optimizer.step_one(key, five.grads[0])
    assert five.fingerprint() == before


def test_there_are_enough_kinds_of_bad_gradients():
    assert len(BAD_GRADS) >= 45


@pytest.mark.parametrize("k", POSITIONS)
@pytest.mark.parametrize("buffer", [b for b in BUFFERS if isinstance(b.param, Refused)], ids=lambda buffer: buffer.kind)
def test_a_rejected_parameter_is_named(buffer, k, tmp_path):
    params = [np.ones((2, 3), np.float32) for _ in range(5)]
    params[k] = buffer.make(tmp_path)
    with pytest.raises((TypeError, ValueError), match=rf"params\[{k}\]"):
        RMSprop(params)


@pytest.mark.parametrize("name", ["param", "grad", "square_avg", "momentum_buffer"])
@pytest.mark.parametrize("buffer", BUFFERS, ids=lambda buffer: buffer.kind)
def test_a_rejected_function_call_changes_nothing(name, buffer, tmp_path):
    role = name if name in ("param", "grad") else "state"
    if not isinstance(getattr(buffer, role), Refused):
        return
    arrays = {k: partner(None, v) for v, k in enumerate(["param", "grad", "square_avg", "momentum_buffer"])}
    arrays[name] = buffer.make(tmp_path)
    others = {k: array.tobytes() for k, array in arrays.items() if k != name}
    with pytest.raises((TypeError, ValueError), match=name):
        instep.rmsprop(**arrays, momentum=0.9)
    assert {k: arrays[k].tobytes() for k in others} == others


# ---- options ----------------------------------------------------------------------------------------------------

HUGE = 10**400
BAD_NUMBERS = [True, np.True_, None, "0.1", b"0.1", [0.1], (0.1,), np.array(0.1), np.array([0.1]), 1j]
BAD_NUMBERS += [np.nan, np.inf, -np.inf, -1.0, -5e-324, HUGE, -HUGE, Fraction(HUGE), object(), float]
BAD_FLAGS = [0, 1, 0.0, 1.0, np.nan, "True", "", None, [], np.array(True), np.int8(1), object()]
TOO_MUCH = {"rho": [1.0, 2, np.float64(1)], "momentum": [1.0, 1.5], "eps": [0, 0.0, -0.0, np.float32(0)]}


def assign(rule, arrays, optimizer, options):
    for name, value in options.items():
        setattr(optimizer, name, value)


OPTION_DOORS = {
    "constructor": lambda rule, arrays, optimizer, options: CLASSES[rule]([arrays["param"]], **options),
    "assignment": assign,
    "function": lambda rule, arrays, optimizer, options: function(rule)(**arrays, **options),
}


def bad_values():
    for rule, defaults in _core.rules().items():
        for option, default in defaults.items():
            for value in BAD_FLAGS if isinstance(default, bool) else BAD_NUMBERS + TOO_MUCH.get(option, []):
                yield pytest.param(rule, option, value, id=f"{rule} {option}={value!r:.20}")


@pytest.mark.parametrize("door", OPTION_DOORS)
@pytest.mark.parametrize(("owner", "option", "value"), list(bad_values()))
def test_bad_option(owner, option, value, door):
    arrays = dict(param=np.ones(5), grad=np.ones(5), **{name: np.ones(5) for name in states_of(owner, {})})
    optimizer = CLASSES[owner]([arrays["param"]])
    before = optimizer.options, [array.tobytes() for array in arrays.values()]
    with pytest.raises((TypeError, ValueError), match=option):
        OPTION_DOORS[door](owner, arrays, optimizer, {option: value})
    assert (optimizer.options, [array.tobytes() for array in arrays.values()]) == before


GOOD_NUMBERS = [0.5, np.float32(0.5), np.float64(0.5), Fraction(1, 2), np.float16(0.5), np.longdouble(0.5)]


@pytest.mark.parametrize("value", GOOD_NUMBERS, ids=lambda value: type(value).__name__)
def test_every_real_number_is_a_number(rule, value):
    for option, default in _core.rules()[rule].items():
        if not isinstance(default, bool):
            optimizer = CLASSES[rule]([np.ones(3)], **{option: value})
            assert getattr(optimizer, option) == 0.5
            assert type(getattr(optimizer, option)) is float


CONTRADICTIONS = [
    ("rmsprop", dict(nesterov=True), "nesterov"),
    ("rmsprop", dict(bias_correction=True, centered=True), "bias_correction"),
    ("rmsprop", dict(bias_correction=True, initial_square_avg=1.0), "bias_correction"),
    ("rmsprop", dict(centered=True, rho=0.0), "centered"),
    ("rmsprop", dict(decoupled_weight_decay=True, lr=2.0, weight_decay=0.6), "weight_decay"),
]


@pytest.mark.parametrize(("owner", "options", "at_fault"), CONTRADICTIONS, ids=lambda value: str(value))
@pytest.mark.parametrize("door", OPTION_DOORS)
def test_contradiction(owner, options, at_fault, door):
    arrays = dict(param=np.ones(5), grad=np.ones(5), **{name: np.ones(5) for name in states_of(owner, options)})
    before = [array.tobytes() for array in arrays.values()]
    with pytest.raises(ValueError, match=at_fault):
        OPTION_DOORS[door](owner, arrays, CLASSES[owner]([arrays["param"]]), options)
    assert [array.tobytes() for array in arrays.values()] == before


IN_FLOAT32 = [("lr", 1e300), ("eps", 1e-60), ("rho", 1 - 2**-40), ("momentum", 1 - 2**-40), ("weight_decay", 4e38)]


@pytest.mark.parametrize(("option", "value"), IN_FLOAT32)
def test_options_that_float32_cannot_hold(option, value):
    RMSprop([np.ones(3)], **{option: value})
    for params in ([np.ones(3, np.float32)], [np.ones(3), np.ones(3, np.float32)]):
        with pytest.raises(ValueError, match=option):
            RMSprop(params, **{option: value})


def test_misspelt_options():
    optimizer = RMSprop([np.ones(3)])
    with pytest.raises(TypeError, match="weight_deacy"):
        RMSprop([np.ones(3)], weight_deacy=0.1)
    with pytest.raises(TypeError, match="weight_deacy"):
        instep.rmsprop(np.ones(3), np.ones(3), np.ones(3), weight_deacy=0.1)
    with pytest.raises(AttributeError, match="weight_deacy"):
        optimizer.weight_deacy = 0.1


def test_states_that_the_options_do_not_need():
    three = dict(param=np.ones(3), grad=np.ones(3))
    with pytest.raises(TypeError, match="square_avg is needed"):
        instep.rmsprop(**three)
    with pytest.raises(TypeError, match="momentum_buffer is needed"):
        instep.rmsprop(**three, square_avg=np.ones(3), momentum=0.5)
    with pytest.raises(TypeError, match="momentum_buffer is not used"):
        instep.rmsprop(**three, square_avg=np.ones(3), momentum_buffer=np.ones(3))
    with pytest.raises(TypeError, match="square_avg is not used"):
        instep.rmsprop(**three, square_avg=np.ones(3), centered=True, variance=np.ones(3), grad_avg=np.ones(3))
    with pytest.raises(TypeError, match="grad_avg is needed"):
        instep.rmsprop(**three, centered=True, variance=np.ones(3))


@pytest.mark.parametrize("step_count", [0, -1, 2**63, True, 1.0, "1", None, np.nan])
def test_bad_step_count(step_count):
    arrays = np.ones(3), np.ones(3), np.ones(3)
    with pytest.raises((TypeError, ValueError), match="step_count"):
        instep.rmsprop(*arrays, step_count=step_count)
    assert all((array == 1).all() for array in arrays)


# ---- overlap ----------------------------------------------------------------------------------------------------


def random_layout(random, count):
    """Intervals of one block of memory, near each other; some misaligned, some empty, some the very same."""
    dtype = np.dtype(random.choice(["float32", "float64"]))
    size = int(random.choice([0, 1, 2, 5, 16]))
    memory = np.zeros(40 * 16 + 64, np.uint8)
    reach = int(random.choice([8, 64, 600]))
    starts = random.integers(0, reach, count)
    if random.random() < 0.5:
        starts = starts // dtype.itemsize * dtype.itemsize
    if random.random() < 0.2:  # side by side, touching
        starts = random.permutation(count) * size * dtype.itemsize % reach
    starts = np.minimum(starts, memory.size - size * dtype.itemsize)
    arrays = [np.frombuffer(memory.data, dtype, size, int(start)) for start in starts]
    return memory, arrays


def test_overlap_in_the_function():
    """2 000 layouts: refused exactly when a written array shares memory with anything."""
    random = np.random.default_rng(2)
    refused = 0
    for _ in range(2000):
        memory, arrays = random_layout(random, 4)
        shared = any(np.shares_memory(a, b) for k, a in enumerate(arrays) for b in arrays[:k])
        refused += shared
        memory[:] = 0
        call = dict(zip(["param", "grad", "square_avg", "momentum_buffer"], arrays, strict=True))
        if shared:
            with pytest.raises(ValueError, match="overlaps"):
                instep.rmsprop(**call, momentum=0.5)
            assert not memory.any()
        elif arrays[0].size:
            instep.rmsprop(**call, momentum=0.5)
    assert 500 < refused < 1900


def test_overlap_in_the_class():
    """2 000 layouts of three parameters and three gradients; gradients may share memory with each other."""
    random = np.random.default_rng(3)
    refused = dict(params=0, grads=0, none=0)
    for _ in range(2000):
        memory, arrays = random_layout(random, 6)
        params, grads = arrays[:3], arrays[3:]
        memory[:] = 0
        if any(np.shares_memory(a, b) for k, a in enumerate(params) for b in params[:k]):
            refused["params"] += 1
            with pytest.raises(ValueError, match="overlaps"):
                RMSprop(params)
            continue
        optimizer = RMSprop(params)
        if any(np.shares_memory(a, b) for a in params for b in grads):
            refused["grads"] += 1
            for call in (optimizer.step, optimizer.bind):
                with pytest.raises(ValueError, match="overlaps"):
                    call(grads)
            assert not memory.any()
            assert optimizer.step_count == 0
        elif params[0].size:
            refused["none"] += 1
            optimizer.step(grads)
    assert min(refused.values()) > 100, refused


def test_a_gradient_that_is_copied_may_lie_anywhere():
    """A strided gradient is read before anything is written, so its memory does not matter."""
    block = np.arange(12, dtype=np.float32)
    param, grad = block[:6].reshape(2, 3), block[:12:2].reshape(2, 3)
    arrays = dict(param=param.copy(), grad=grad.copy(), square_avg=np.ones((2, 3), np.float32))
    after = expected("rmsprop", Options("rmsprop").values(), arrays)
    square_avg = np.ones((2, 3), np.float32)
    instep.rmsprop(param, grad, square_avg)
    assert param.tobytes() == after["param"].tobytes()
    assert square_avg.tobytes() == after["square_avg"].tobytes()


def test_overlap_with_state_that_an_option_makes():
    """The new state is compared with the gradients that are bound, and the old verdict on a gradient is forgotten."""
    param, grad = np.ones(8), np.ones(8)
    optimizer = RMSprop([param])
    optimizer.step([grad])
    optimizer.momentum = 0.5
    with pytest.raises(ValueError, match="overlaps"):
        optimizer.step([optimizer.state["momentum_buffer"][0]])


# ---- indices are 64 bits wide -----------------------------------------------------------------------------------

BEYOND = [2**31 + 17, 2**32 + 17]


@pytest.mark.unemulated("keeps a table entry for each page of the many GiB that are mapped")
@pytest.mark.skipif(sys.platform != "linux", reason="maps memory as Linux does")
@pytest.mark.parametrize("size", BEYOND)
def test_64_bit_indices(size, soak):
    """Each element of the window is stepped once for each time that it is mapped, the first 17 once more."""
    if size > BEYOND[0] and not soak:
        size = 2**30 + 17  # here the bytes alone need more than 32 bits
    random = np.random.default_rng(4)
    pattern = {name: random.standard_normal(1024).astype(np.float32) for name in ("param", "grad")}
    pattern["square_avg"] = np.zeros(1024, np.float32)
    with (
        window(size, np.float32, pattern["param"]) as (param, param_memory),
        window(size, np.float32, pattern["grad"]) as (grad, _),
        window(size, np.float32, pattern["square_avg"]) as (square_avg, square_avg_memory),
    ):
        instep.set_num_threads(1)  # two threads would step the same memory at once
        instep.rmsprop(param, grad, square_avg, lr=1e-3, rho=0.99)
        del param, grad, square_avg
        results = param_memory.copy(), square_avg_memory.copy()
        del param_memory, square_avg_memory, _
    visits = size * 4 // WINDOW
    for _ in range(visits):
        instep.reference.rmsprop(**pattern, lr=1e-3, rho=0.99)
    once_more = {name: array[:17].copy() for name, array in pattern.items()}
    instep.reference.rmsprop(**once_more, lr=1e-3, rho=0.99)
    for result, name in zip(results, ["param", "square_avg"], strict=True):
        expected_window = np.resize(pattern[name], result.size)
        expected_window[:17] = once_more[name]
        assert result.tobytes() == expected_window.tobytes()


@pytest.mark.unemulated("keeps a table entry for each page of the many GiB that are mapped")
@pytest.mark.skipif(sys.platform != "linux", reason="maps memory as Linux does")
def test_64_bit_indices_in_threads(soak):
    """With rho and lr 0 every visit leaves the same, so that threads may meet in the same memory."""
    values = np.float32([1, -2, 3, 0.5])
    size = BEYOND[soak]
    with (
        window(size, np.float32, np.float32([7])) as (param, param_memory),
        window(size, np.float32, values) as (grad, _),
        window(size, np.float32, np.float32([9])) as (square_avg, square_avg_memory),
    ):
        instep.set_num_threads(4)
        instep.rmsprop(param, grad, square_avg, lr=0.0, rho=0.0)
        del param, grad, square_avg, _
        assert (param_memory == 7).all()
        assert (square_avg_memory == np.resize(values * values, square_avg_memory.size)).all()
        del param_memory, square_avg_memory


# ---- nestings, None, bind, counts -------------------------------------------------------------------------------

Layer = collections.namedtuple("Layer", ["weight", "bias"])


class ListOfMine(list):
    pass


def ones():
    return np.ones(3, np.float32)


NESTINGS = [
    ones,
    lambda: [ones()],
    lambda: (ones(), ones()),
    lambda: {"w": ones(), "b": ones()},
    lambda: {"w": ones(), 3: ones(), (1, 2): ones(), None: ones()},
    lambda: Layer(ones(), ones()),
    lambda: [Layer(ones(), {"a": [ones()], "b": (ones(), ones())}), ones()],
    lambda: {"empty": [], "full": [ones(), {}], "more": ((), ones())},
    lambda: collections.OrderedDict(a=ones(), b=ones()),
    lambda: ListOfMine([ones(), ones()]),
]


def mapped_nest(nest, change):
    if isinstance(nest, dict):
        return {key: mapped_nest(value, change) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        items = [mapped_nest(value, change) for value in nest]
        return type(nest)(*items) if hasattr(nest, "_fields") else type(nest)(items)
    return change(nest)


def same_shape(a, b):
    """The same containers, keys and leaves."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same_shape(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)[isinstance(a, tuple)]) and all(map(same_shape, a, b))
    return a is b


@pytest.mark.parametrize("make", NESTINGS, ids=range(len(NESTINGS)))
def test_nesting(make):
    params = make()
    optimizer = RMSprop(params, lr=0.1)
    assert same_shape(params, optimizer.params)
    grads = mapped_nest(params, np.ones_like)
    optimizer.step(grads)
    after = expected("rmsprop", dict(lr=0.1), dict(param=ones(), grad=ones(), square_avg=np.zeros(3, np.float32)))
    mapped_nest(params, lambda array: np.testing.assert_array_equal(array, after["param"]))
    mapped_nest(optimizer.state["square_avg"], lambda array: np.testing.assert_array_equal(array, after["square_avg"]))
    optimizer.bind(grads)
    optimizer.step()
    assert optimizer.step_count == 2


def test_order_of_keys_does_not_matter():
    params = {"a": np.ones(3), "b": np.ones((2, 2)), "c": np.ones(1)}
    optimizer = RMSprop(params)
    grads = {key: np.ones_like(params[key]) for key in "cab"}
    optimizer.step(grads)
    optimizer.bind(grads)
    optimizer.step()
    assert optimizer.step_count == 2


def test_lists_and_tuples_stand_for_each_other():
    optimizer = RMSprop([(ones(), ones()), Layer(ones(), ones())])
    optimizer.step(([ones(), ones()], [ones(), ones()]))
    assert optimizer.step_count == 1


BAD_NESTINGS = [
    ([], "no array"),
    ({}, "no array"),
    ([[], {}], "no array"),
    (None, r"^params must be"),
    ([1.0], r"params\[0\]"),
    ({"w": [np.ones(3), None]}, r"params\['w'\]\[1\]"),
    (iter([np.ones(3)]), "^params must be"),
    ("weights", "^params must be"),
]


@pytest.mark.parametrize(("params", "words"), BAD_NESTINGS, ids=range(len(BAD_NESTINGS)))
def test_bad_nesting_of_params(params, words):
    with pytest.raises((TypeError, ValueError), match=words):
        RMSprop(params)


def test_nesting_without_end():
    params = [np.ones(3)]
    params.append(params)
    with pytest.raises(ValueError, match="nested deeper"):
        RMSprop(params)


def test_the_same_array_twice():
    array = np.ones(3)
    with pytest.raises(ValueError, match="overlaps"):
        RMSprop([array, array])


def test_keys_are_named():
    optimizer = RMSprop({"w": np.ones(3), "b": np.ones(3)})
    with pytest.raises(ValueError, match=r"missing 'b'.*unknown 'bias'"):
        optimizer.step({"w": np.ones(3), "bias": np.ones(3)})


def test_none_leaves_an_array_alone():
    params = [np.ones(3), np.ones(3)]
    optimizer = RMSprop(params, bias_correction=True)
    optimizer.step([np.ones(3), None])
    assert (params[1] == 1).all()
    assert (optimizer.state["square_avg"][1] == 0).all()
    assert optimizer.step_count == 1
    optimizer.step([np.ones(3), np.ones(3)])
    first = np.ones(3)
    instep.rmsprop(first, np.ones(3), np.zeros(3), bias_correction=True, step_count=1)
    assert params[1].tobytes() == first.tobytes()
    assert optimizer._snapshot()[2:] == (2, [2, 1])


def test_float32_and_float64_side_by_side():
    random = np.random.default_rng(5)
    for options in one_of_each_loop("rmsprop"):
        dtypes = ["float32", "float64", "float32"]
        every = [
            {name: random.random(5).astype(d) for name in ("param", "grad", *states_of("rmsprop", options))}
            for d in dtypes
        ]
        after = [expected("rmsprop", options, arrays) for arrays in every]
        optimizer = RMSprop([arrays["param"] for arrays in every], **options)
        states = {name: [arrays[name] for arrays in every] for name in states_of("rmsprop", options)}
        optimizer._adopt(optimizer._options, states)
        optimizer.step([arrays["grad"] for arrays in every])
        for actual, wanted in zip(every, after, strict=True):
            assert_same_bits(actual, wanted, str(options))


def test_step_one_counts_a_sweep_as_one_step():
    params = {"a": np.ones(3), "b": [np.ones(3), np.ones(3)]}
    optimizer = RMSprop(params)
    for sweep in (1, 2, 3):
        optimizer.step_one("a", np.ones(3))
        optimizer.step_one(("b", 0), np.ones(3))
        optimizer.step_one(("b", 1), np.ones(3))
        assert optimizer.step_count == sweep
    whole = RMSprop([np.ones(3)])
    for _ in range(3):
        whole.step([np.ones(3)])
    for array in (params["a"], *params["b"]):
        assert array.tobytes() == whole.params[0].tobytes()


def test_step_one_needs_a_gradient():
    optimizer = RMSprop([np.ones(3)])
    with pytest.raises(TypeError, match=r"^grad\[0\] must be"):
        optimizer.step_one(0, None)
    with pytest.raises(ValueError, match=r"^grad\[0\] has shape"):
        optimizer.step_one(0, np.ones(4))
    with pytest.raises(ValueError, match=r"^grad\[0\] overlaps"):
        optimizer.step_one(0, optimizer.params[0])


def test_the_count_is_64_bits_wide():
    optimizer = RMSprop([np.ones(3)])
    optimizer._adopt(optimizer._options, optimizer._states, 2**62, [2**62])
    optimizer.step([np.ones(3)])
    assert optimizer.step_count == 2**62 + 1
    optimizer._adopt(optimizer._options, optimizer._states, 2**63 - 2, [2**63 - 2])
    optimizer.step([np.ones(3)])
    before = optimizer.params[0].tobytes()
    with pytest.raises(ValueError, match="step count"):
        optimizer.step([np.ones(3)])
    assert optimizer.params[0].tobytes() == before
    assert optimizer.step_count == 2**63 - 1


def test_no_array_is_ahead_of_the_count():
    optimizer = RMSprop([np.ones(3), np.ones(3)])
    with pytest.raises(ValueError, match="cannot have taken 3 of 2 steps"):
        optimizer._adopt(optimizer._options, optimizer._states, 2, [1, 3])
    assert optimizer._snapshot()[2:] == (0, [0, 0])


def test_step_count_cannot_be_assigned():
    optimizer = RMSprop([np.ones(3)])
    for name in ("step_count", "params", "state", "options"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 1)


def test_bind():
    params, grads = [np.ones(3), np.ones((2, 2))], [np.ones(3), np.ones((2, 2))]
    optimizer, other = RMSprop(params), RMSprop([array.copy() for array in params])
    with pytest.raises(TypeError, match="needs bind"):
        optimizer.step()
    optimizer.bind(grads)
    for t in range(5):
        for grad in grads:
            grad[...] = t - 2
        optimizer.step()
        other.step(grads)
        if t == 2:  # what is given to a step counts for that step alone
            optimizer.step([np.ones(3), None])
            other.step([np.ones(3), None])
        if t == 3:
            optimizer.step_one(1, np.ones((2, 2)))
            other.step_one(1, np.ones((2, 2)))
    for mine, its in zip(params, other.params, strict=True):
        assert mine.tobytes() == its.tobytes()


def test_bound_gradients_are_kept_alive():
    grad = np.ones(100_000)
    optimizer = RMSprop([np.ones(100_000)])
    before = sys.getrefcount(grad)
    optimizer.bind([grad])
    assert sys.getrefcount(grad) > before
    optimizer.step([np.ones(100_000)])
    optimizer.step()
    optimizer.bind(None)
    assert sys.getrefcount(grad) == before


def test_gradients_of_a_step_are_let_go():
    grad = np.ones(10)
    optimizer = RMSprop([np.ones(10)])
    before = sys.getrefcount(grad)
    for _ in range(3):
        optimizer.step([grad])
        optimizer.step_one(0, grad)
        with pytest.raises(ValueError, match="has 2 items"):
            optimizer.step([grad, grad])
    assert sys.getrefcount(grad) == before


def test_forgotten_gradients_are_forgotten():
    optimizer = RMSprop([np.ones(3)])
    optimizer.bind([np.ones(3)])
    optimizer.step()
    optimizer.bind(None)
    with pytest.raises(TypeError, match="needs bind"):
        optimizer.step()
    assert optimizer.step_count == 1


def test_what_was_bound_stays_bound_when_bind_is_refused():
    param, grad = np.ones(3), np.ones(3)
    optimizer = RMSprop([param])
    optimizer.bind([grad])
    with pytest.raises(ValueError, match="shape"):
        optimizer.bind([np.ones(4)])
    optimizer.step()
    other = RMSprop([np.ones(3)])
    other.step([grad])
    assert param.tobytes() == other.params[0].tobytes()


def test_an_optimizer_is_neither_copied_nor_pickled():
    """Two optimizers on the same arrays, or one on copies that nobody holds: both would be silently wrong."""
    optimizer = RMSprop([np.ones(3)])
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(optimizer)


def test_an_optimizer_is_made_once():
    optimizer = RMSprop([np.ones(3)])
    with pytest.raises(TypeError, match="once"):
        optimizer.__init__([np.ones(3)])


@pytest.mark.parametrize(
    "use",
    [
        "made.step([np.ones(3)])",
        "made.step_one(0, np.ones(3))",
        "made.bind([np.ones(3)])",
        "made.lr",
        "made.lr = 1.0",
        "made.step()",
        "made.params",
        "made.state",
        "repr(made)",
    ],
)
def test_an_optimizer_that_was_not_initialized_does_not_crash(use):
    code = f"""
import numpy as np, instep
made = instep.RMSprop.__new__(instep.RMSprop)
try:
    {use}
except (TypeError, AttributeError, ValueError, RuntimeError):
    pass
"""
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False).returncode == 0


def test_repr(rule):
    assert repr(CLASSES[rule](np.ones(3))).startswith(f"{CLASSES[rule].__name__}(1 array, ")
    text = repr(CLASSES[rule]([np.ones(3), np.ones(2)]))
    assert text.startswith(f"{CLASSES[rule].__name__}(2 arrays, ")
    for name, value in _core.rules()[rule].items():
        assert f"{name}={value!r}" in text


def test_presets_are_accepted():
    for name, options in instep.presets().items():
        optimizer = RMSprop.preset(name, [np.ones(3, np.float32)], **({} if "lr" in options else dict(lr=0.1)))
        assert optimizer.options == dict(lr=0.1) | options
        optimizer.step([np.ones(3, np.float32)])


def test_the_function_takes_every_combination_the_class_takes(rule):
    parameters = inspect.signature(function(rule)).parameters
    for options in combinations(rule):
        assert set(options) | set(states_of(rule, options)) <= set(parameters)


# ---- what changes after it was checked --------------------------------------------------------------------------


def freeze(param):
    param.flags.writeable = False


def retype(param):
    param.dtype = np.int32


def swap(param):
    param.dtype = np.dtype(np.float32).newbyteorder()


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")  # of NumPy 2.5, where it still works
@pytest.mark.parametrize(
    ("change", "words"),
    [(freeze, "has become read-only"), (retype, "is not what it was"), (swap, "is not what it was")],
)
def test_a_parameter_that_is_no_longer_what_it_was_is_not_written(change, words):
    param = np.ones(4096, np.float32)
    optimizer = RMSprop({"w": param})
    change(param)
    before = param.tobytes()
    grad = np.ones(param.shape, param.dtype)
    for act in (lambda: optimizer.step({"w": grad}), lambda: optimizer.step_one("w", grad)):
        with pytest.raises(ValueError, match=rf"params\['w'\] {words}"):
            act()
    assert param.tobytes() == before


def test_a_frozen_parameter_is_not_written_by_a_bound_step():
    params, grads = [np.ones(3), np.ones(3)], [np.ones(3), np.ones(3)]
    optimizer = RMSprop(params)
    optimizer.bind(grads)
    optimizer.step()
    params[1].flags.writeable = False
    before = [param.tobytes() for param in params]
    with pytest.raises(ValueError, match=r"params\[1\] has become read-only"):
        optimizer.step()
    assert [param.tobytes() for param in params] == before
    assert optimizer.step_count == 1
    optimizer.bind([grads[0], None])  # which does not write it
    optimizer.step()


def test_what_is_stepped_cannot_be_resized():
    param, grad = np.ones(4096), np.ones(4096)
    optimizer = RMSprop([param])
    optimizer.bind([grad])
    for array in (param, grad, optimizer.state["square_avg"][0]):
        for size in (1, 1 << 20):
            with pytest.raises(ValueError, match="resize"):
                array.resize(size, refcheck=False)
    optimizer.bind(None)
    grad.resize(1, refcheck=False)


def test_a_list_of_gradients_may_change_while_it_is_looked_at():
    grads = [np.ones(3) for _ in range(50)]

    class Changing(np.ndarray):
        @property
        def __dlpack__(self):
            grads.clear()
            raise AttributeError

    grads[0] = np.ones(3).view(Changing)
    with pytest.raises(TypeError, match=r"grads\[0\]"):
        RMSprop([np.ones(3) for _ in range(50)]).step(grads)
