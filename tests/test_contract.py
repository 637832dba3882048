"""What a call takes and what it refuses, and that a refused call changes nothing (promises 8 to 12)."""

import collections
import copy
import hashlib
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from fractions import Fraction
from itertools import chain, permutations
from pathlib import Path

import numpy as np
import pytest

import instep
from buffers import BUFFERS, COPIED, FOR_CLASSES, IN_PLACE, WRONG_DTYPE, Refused
from checkpoints import rewritten
from instep import _core
from instep.optimizers import Optimizer
from memory_window import WINDOW, window
from trials import (
    CLASSES,
    accepting,
    assert_same_bits,
    combinations,
    contradictions,
    copies,
    defaults,
    expected,
    function,
    one_of_each_loop,
    ranges,
    situations,
    start_arrays,
    states_of,
    structures,
    twin,
)

CSRC = Path(__file__).parents[1] / "csrc"
SITUATIONS = situations()
every_situation = pytest.mark.parametrize(("rule", "options"), SITUATIONS.values(), ids=SITUATIONS)


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


def to_function(name):
    """The buffer as the argument of this name of the rule's function."""

    def door(rule, options, buffer):
        beside = buffer if name == "param" else None
        arrays = {key: partner(beside, 0.25) for key in ("param", "grad", *states_of(rule, options))}
        arrays[name] = buffer
        return arrays, lambda: function(rule)(**arrays, **options)

    return door


def to_class(rule, options, buffer):
    arrays = dict(param=buffer, grad=partner(buffer))

    def call():
        optimizer = CLASSES[rule]({"w": buffer}, **options)
        arrays.update({name: plain_copy(state["w"]) for name, state in optimizer.state.items()})
        before = {name: plain_copy(array) for name, array in arrays.items()}
        optimizer.step({"w": arrays["grad"]})
        arrays.update({name: state["w"] for name, state in optimizer.state.items()})
        return before

    return arrays, call


def to_method(method):
    def door(rule, options, buffer):
        arrays = dict(param=partner(None), grad=buffer)
        optimizer = CLASSES[rule]({"w": arrays["param"]}, **options)
        arrays |= {name: state["w"] for name, state in optimizer.state.items()}

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


def doors(rule, options):
    """Where a buffer may come in: as what, through which call."""
    yield "param", "function", to_function("param")
    yield "param", "class", to_class
    yield "grad", "function", to_function("grad")
    for method in ("step", "step_one", "bind"):
        yield "grad", method, to_method(method)
    for name in states_of(rule, options):
        yield "state", f"function as {name}", to_function(name)


def outcome(buffer, role, door):
    """The table's cell, and what this door makes of it."""
    cell = getattr(buffer, role)
    if door.startswith("function") and buffer.kind in FOR_CLASSES:
        return WRONG_DTYPE
    if role == "grad" and buffer.kind == "None" and door in ("step", "bind"):
        return Refused(ValueError, "every gradient is None")
    if role == "param" and buffer.kind == "nested lists of numbers" and door == "class":
        return Refused(TypeError, r"params\['w'\]\[0\]\[0\] must be a numpy.ndarray")
    if cell == COPIED and door == "bind":
        return Refused(ValueError, "bind a contiguous array")
    return cell


@pytest.mark.parametrize("buffer", BUFFERS, ids=lambda buffer: buffer.kind)
@every_situation
def test_buffer(rule, options, buffer, tmp_path):
    for role, door, make_call in doors(rule, options):
        folder = tmp_path / f"{role} of {door}"
        folder.mkdir()
        cell = outcome(buffer, role, door)
        arrays, call = make_call(rule, options, buffer.make(folder))
        if isinstance(cell, Refused):
            with pytest.raises(cell.error, match=cell.words):
                call()
            continue
        assert cell in (IN_PLACE, COPIED)
        before = {name: plain_copy(array) for name, array in arrays.items()}
        before = call() or before
        if buffer.kind in FOR_CLASSES:
            after = {name: plain_copy(array) for name, array in before.items()}
            states = {name: after[name] for name in states_of(rule, options)}
            instep.around.step(rule, after["param"], after["grad"], states, **options)
        else:
            after = expected(rule, options, before)
        assert_same_bits({name: np.asarray(array) for name, array in arrays.items()}, after, f"{role} of {door}")


@pytest.mark.parametrize("buffer", BUFFERS, ids=lambda buffer: buffer.kind)
def test_buffer_as_values_of_rows(buffer, tmp_path):
    """Taken as a gradient is."""
    values, param = buffer.make(tmp_path), np.full((2, 3), 0.5, np.float32)
    optimizer = instep.RMSprop(param)

    def call():
        optimizer.step(instep.Rows(np.array([0, 1]), values))

    if isinstance(buffer.grad, Refused):
        with pytest.raises(buffer.grad.error):
            call()
        assert (param == 0.5).all()
        return
    other = param.copy()
    instep.RMSprop(other).step(plain_copy(values))
    call()
    assert param.tobytes() == other.tobytes()


def test_the_table_is_large_enough():
    assert len(BUFFERS) >= 30
    assert len({buffer.kind for buffer in BUFFERS}) == len(BUFFERS)


def test_matrix_is_refused(rule):
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0]])
    with pytest.raises(TypeError, match=r"must be a numpy\.ndarray"):
        function(rule)(matrix, np.ones((1, 2)), *np.ones((len(states_of(rule, {})), 1, 2)))


def test_a_write_to_a_map_reaches_the_file(rule, tmp_path):
    array = np.memmap(tmp_path / "map", np.float32, "w+", shape=(5,))
    CLASSES[rule]([array]).step([np.ones(5, np.float32)])
    array.flush()
    assert np.fromfile(tmp_path / "map", np.float32).tobytes() == array.tobytes()
    assert (array != 0).all()


# ---- a rejected call changes nothing ----------------------------------------------------------------------------

POSITIONS = [0, 2, 4]
STEP_DOORS = ["step", "bind"]


class Five:
    """Five parameters, their states and gradients, one step taken."""

    def __init__(self, rule, options):
        random = np.random.default_rng(1)
        self.params = [random.standard_normal((2, 3)).astype(np.float32) for _ in range(5)]
        self.grads = [random.standard_normal((2, 3)).astype(np.float32) for _ in range(5)]
        self.optimizer = CLASSES[rule](self.params, **options)
        self.optimizer.step(self.grads)
        self.optimizer.step_one(1, self.grads[1])

    def fingerprint(self):
        options, states, step_count, counts, *_ = self.optimizer._snapshot()
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
    **{
        f"{whose} state {s}": with_grad(
            lambda five, k, directory, s=s, of=of: list(five.optimizer.state.values())[s][(k + of) % 5]
        )
        for s in range(_core.MOST_STATES)
        for whose, of in (("its", 0), ("another's", 2))
    },
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


def bad_grads(kind, rule, options):
    """Whether there are such in a situation: a rule may have fewer states."""
    state = re.search(r" state (\d)", kind)
    return state is None or int(state[1]) < len(states_of(rule, options))


@pytest.mark.parametrize("kind", BAD_GRADS)
@every_situation
def test_a_rejected_gradient_changes_nothing(rule, options, kind, tmp_path):
    if not bad_grads(kind, rule, options):
        return
    for door in STEP_DOORS:
        for k in POSITIONS:
            five, folder = Five(rule, options), tmp_path / f"{door} {k}"
            folder.mkdir()
            grads = BAD_GRADS[kind](five, k, folder)
            before = five.fingerprint()
            with pytest.raises((TypeError, ValueError)) as raised:
                getattr(five.optimizer, door)(grads)
            assert five.fingerprint() == before, (door, k)
            assert "grads" in str(raised.value)
            if isinstance(grads, list) and len(grads) == 5:
                assert f"grads[{k}]" in str(raised.value)
            five.optimizer.step(five.grads)  # and it goes on as if nothing had been
            other = Five(rule, options)
            other.optimizer.step(other.grads)
            assert five.fingerprint() == other.fingerprint(), (door, k)


@pytest.mark.parametrize(
    "kind", [kind for kind, make in BAD_GRADS.items() if make.__qualname__.startswith("with_grad")]
)
@every_situation
def test_a_rejected_gradient_of_one_array_changes_nothing(rule, options, kind, tmp_path):
    if not bad_grads(kind, rule, options):
        return
    for k in POSITIONS:
        five, folder = Five(rule, options), tmp_path / str(k)
        folder.mkdir()
        grad = BAD_GRADS[kind](five, k, folder)[k]
        before = five.fingerprint()
        with pytest.raises((TypeError, ValueError), match=rf"grads?\[{k}\]"):
            five.optimizer.step_one(k, grad)
        assert five.fingerprint() == before, k


@pytest.mark.parametrize("key", [5, -1, "w", (0, 0), None, 0.5, (), [0]])
@every_situation
def test_a_key_without_an_array_changes_nothing(rule, options, key):
    five = Five(rule, options)
    before = five.fingerprint()
    with pytest.raises((KeyError, TypeError)):
        five.optimizer.step_one(key, five.grads[0])
    assert five.fingerprint() == before


def test_there_are_enough_kinds_of_bad_gradients():
    assert len(BAD_GRADS) >= 45


@pytest.mark.parametrize("buffer", [b for b in BUFFERS if isinstance(b.param, Refused)], ids=lambda buffer: buffer.kind)
def test_a_rejected_parameter_is_named(rule, buffer, tmp_path):
    for k in POSITIONS:
        params, folder = [np.ones((2, 3), np.float32) for _ in range(5)], tmp_path / str(k)
        folder.mkdir()
        params[k] = buffer.make(folder)
        with pytest.raises((TypeError, ValueError), match=rf"params\[{k}\]"):
            CLASSES[rule](params)


@pytest.mark.parametrize("buffer", BUFFERS, ids=lambda buffer: buffer.kind)
@every_situation
def test_a_rejected_function_call_changes_nothing(rule, options, buffer, tmp_path):
    for name in ("param", "grad", *states_of(rule, options)):
        if not isinstance(getattr(buffer, name if name in ("param", "grad") else "state"), Refused):
            continue
        folder = tmp_path / name
        folder.mkdir()
        arrays = {k: partner(None, v) for v, k in enumerate(["param", "grad", *states_of(rule, options)])}
        arrays[name] = buffer.make(folder)
        others = {k: array.tobytes() for k, array in arrays.items() if k != name}
        for step in (function(rule), twin(rule)):
            with pytest.raises((TypeError, ValueError), match=name):
                step(**arrays, **options)
            assert {k: arrays[k].tobytes() for k in others} == others


# ---- options ----------------------------------------------------------------------------------------------------

HUGE = 10**400
NO_NUMBERS = [True, np.True_, None, "0.1", b"0.1", [0.1], (0.1,), np.array([0.1]), 1j, object(), float]
NO_NUMBERS += map(np.array, (True, None, "0.1", 1j))
OF_NO_RANGE = [*NO_NUMBERS, np.nan, np.inf, -np.inf, -1.0, -5e-324, HUGE, -HUGE, Fraction(HUGE)]
BAD = {
    "any size": OF_NO_RANGE,
    "positive": [*OF_NO_RANGE, 0, 0.0, -0.0, np.float32(0)],
    "decay": [*OF_NO_RANGE, 1.0, 2, np.float64(1), 1 + 2**-52],
    "fraction": [*OF_NO_RANGE, 0, 0.0, -0.0, 1.0, 1, 1.5],
    "growth": [*OF_NO_RANGE, 1.0, 1, 0.5, 0, 1 - 2**-53],
    "flag": [0, 1, 0.0, 1.0, np.nan, "True", "", None, [], np.array(True), np.int8(1), object()],
}


def assign(rule, arrays, optimizer, options, folder):
    for name, value in options.items():
        setattr(optimizer, name, value)


def load_options(rule, arrays, optimizer, options, folder):
    state_dict = optimizer.state_dict()
    state_dict["options"] |= options
    optimizer.load_state_dict(state_dict)


def load_file(rule, arrays, optimizer, options, folder):
    """A file that is sound but for the options."""
    try:
        json.dumps(options)
    except TypeError:
        raise TypeError(f"no file holds such a value of {', '.join(options)}") from None
    if not (folder / "sound").exists():
        optimizer.save(folder / "sound")
    content = rewritten((folder / "sound").read_bytes(), lambda metadata, _: metadata["options"].update(options))
    (folder / "checkpoint").write_bytes(content)
    for load in (optimizer.load, lambda path: instep.load(path, [np.ones(5)])):
        with pytest.raises(instep.CheckpointError) as raised:
            load(folder / "checkpoint")
    raise raised.value


def preset(rule, arrays, optimizer, options, folder):
    given = {name: value for name, value in options.items() if value is not None}  # which stands for what is left out
    if len(given) < len(options):
        raise TypeError(f"no preset is given such a value of {', '.join(options)}")
    name = next(iter(instep.presets(rule)), None)
    if name is None:
        pytest.skip("no framework has the rule")
    CLASSES[rule].preset(name, [arrays["param"]], **{"lr": defaults(rule)["lr"]} | given)


OPTION_DOORS = {
    "constructor": lambda rule, arrays, optimizer, options, folder: CLASSES[rule]([arrays["param"]], **options),
    "assignment": assign,
    "function": lambda rule, arrays, optimizer, options, folder: function(rule)(**arrays, **options),
    "reference": lambda rule, arrays, optimizer, options, folder: twin(rule)(**arrays, **options),
    "state_dict": load_options,
    "file": load_file,
    "preset": preset,
}


def refuses(door, rule, options, at_fault, folder, error=(TypeError, ValueError)):
    """An exception that names the option, and nothing has changed."""
    arrays = dict(param=np.ones(5), grad=np.ones(5), **{name: np.ones(5) for name in states_of(rule, {})})
    optimizer = CLASSES[rule]([arrays["param"]])
    before = optimizer.options, [array.tobytes() for array in arrays.values()]
    with pytest.raises(error, match=at_fault):
        OPTION_DOORS[door](rule, arrays, optimizer, options, folder)
    assert before[1] == [array.tobytes() for array in arrays.values()]
    return optimizer.options == before[0]


@pytest.mark.parametrize("door", OPTION_DOORS)
def test_bad_value_of_an_option(rule, door, tmp_path):
    for name, span in ranges(rule).items():
        for value in BAD[span]:
            assert refuses(door, rule, {name: value}, name, tmp_path), f"{name}={value!r}"


GOOD_NUMBERS = [np.float32, np.float64, Fraction, np.float16, np.longdouble, np.array, float]


@pytest.mark.parametrize("kind", GOOD_NUMBERS, ids=lambda kind: kind.__name__)
def test_every_real_number_is_a_number(rule, kind):
    for name, span in ranges(rule).items():
        if span != "flag":
            value = 1.5 if span == "growth" else 0.5
            options = accepting(rule, name, value) | {name: kind(value)}
            optimizer = CLASSES[rule]([np.ones(3)], **options)
            assert getattr(optimizer, name) == value
            assert type(getattr(optimizer, name)) is float


@pytest.mark.parametrize("door", OPTION_DOORS)
def test_contradiction(rule, door, tmp_path):
    assert contradictions(rule)
    for options, at_fault in contradictions(rule):
        if door == "assignment":  # one after the other: which of them is refused, and why, is a matter of their order
            at_fault = "|".join(options)
        refuses(door, rule, options, at_fault, tmp_path, ValueError)


def test_every_contradiction_is_tried(rule):
    written = set(re.findall(r"INSTEP_(?!OK\b)\w+", contradiction_in_c(rule)))
    tried = [at_fault for options, at_fault in contradictions(rule) if "decoupled_weight_decay" not in options]
    assert len(tried) == len(written), f"of {', '.join(written)} these are tried: {', '.join(tried)}"


def contradiction_in_c(rule):
    text = (CSRC / "rules" / f"{rule}.h").read_text()
    if f"NO_CONTRADICTION({rule})" in text:
        return ""
    return re.search(rf"\b{rule}_contradiction\(.*?\n}}", text, re.DOTALL)[0]


BEYOND_FLOAT32 = {
    "any size": [1e300, 4e38],
    "positive": [1e300, 1e-60],
    "decay": [1 - 2**-40, 1e-60],
    "fraction": [1 - 2**-40, 1e-60],
    "growth": [1 + 2**-40, 1e300],
    "flag": [],
}


def test_options_that_float32_cannot_hold(rule):
    for name, span in ranges(rule).items():
        for value in BEYOND_FLOAT32[span]:
            options = accepting(rule, name, value)
            if options is None:
                assert (rule, name) == ("rprop", "step_min"), name  # whose largest is below step_max
                continue
            options |= {name: value}
            CLASSES[rule]([np.ones(3)], **options)
            for params in ([np.ones(3, np.float32)], [np.ones(3), np.ones(3, np.float32)]):
                with pytest.raises(ValueError, match=name):
                    CLASSES[rule](params, **options)
            optimizer = CLASSES[rule]([np.ones(3, np.float32)], **options | {name: defaults(rule)[name]})
            with pytest.raises(ValueError, match=name):
                setattr(optimizer, name, value)
            arrays = {k: np.ones(3, np.float32) for k in ("param", "grad", *states_of(rule, options))}
            for step in (function(rule), twin(rule)):
                with pytest.raises(ValueError, match=name):
                    step(**arrays, **options)


def test_misspelt_options(rule, tmp_path):
    optimizer = CLASSES[rule]([np.ones(3)])
    arrays = [np.ones(3) for _ in range(2 + len(states_of(rule, {})))]
    for call in (function(rule), twin(rule), lambda *a, **o: CLASSES[rule](a[0], **o)):
        with pytest.raises(TypeError, match="weight_deacy"):
            call(*arrays, weight_deacy=0.1)
    with pytest.raises(AttributeError, match="weight_deacy"):
        optimizer.weight_deacy = 0.1
    with pytest.raises(TypeError, match="weight_deacy"):
        optimizer._set_options({"weight_deacy": 0.1})
    for name in instep.presets(rule):
        with pytest.raises(TypeError, match="weight_deacy"):
            CLASSES[rule].preset(name, [np.ones(3)], weight_deacy=0.1)
    for door in (load_options, load_file):
        with pytest.raises(ValueError, match="weight_deacy"):
            door(rule, None, optimizer, {"weight_deacy": 0.1}, tmp_path)


def test_states_that_the_options_do_not_need(rule):
    every = {name for options in structures(rule) for name in states_of(rule, options)}
    for options in structures(rule):
        needed = {name: np.ones(3) for name in states_of(rule, options)}
        two = dict(param=np.ones(3), grad=np.ones(3))
        for step in (function(rule), twin(rule)):
            for name in needed:
                with pytest.raises(TypeError, match=f"{name} is needed"):
                    step(**two, **{k: array for k, array in needed.items() if k != name}, **options)
            for name in every - set(needed):
                with pytest.raises(TypeError, match=f"{name} is not used"):
                    step(**two, **needed, **{name: np.ones(3)}, **options)
        assert all((array == 1).all() for array in (*two.values(), *needed.values()))


@pytest.mark.parametrize("step_count", [0, -1, 2**63, True, 1.0, "1", None, np.nan])
@every_situation
def test_bad_step_count(rule, options, step_count):
    arrays = {name: np.ones(3) for name in ("param", "grad", *states_of(rule, options))}
    for step in (function(rule), twin(rule)):
        with pytest.raises((TypeError, ValueError), match="step_count"):
            step(**arrays, **options, step_count=step_count)
        assert all((array == 1).all() for array in arrays.values())


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


@every_situation
def test_overlap_in_the_function(rule, options, soak):
    """In a soak 2 000 layouts: refused exactly when a written array shares memory with anything."""
    random = np.random.default_rng(2)
    rounds = 2000 if soak else 400
    names = ["param", "grad", *states_of(rule, options)]
    refused = 0
    for _ in range(rounds):
        memory, arrays = random_layout(random, len(names))
        shared = any(np.shares_memory(a, b) for k, a in enumerate(arrays) for b in arrays[:k])
        refused += shared
        memory[:] = 0
        call = dict(zip(names, arrays, strict=True))
        if shared:
            with pytest.raises(ValueError, match="overlaps"):
                function(rule)(**call, **options)
            assert not memory.any()
        elif arrays[0].size:
            function(rule)(**call, **options)
    assert rounds / 10 < refused < 0.95 * rounds


@every_situation
def test_overlap_in_the_class(rule, options, soak):
    """The same for layouts of three parameters and three gradients; gradients may share memory with each other."""
    random = np.random.default_rng(3)
    rounds = 2000 if soak else 400
    refused = dict(params=0, grads=0, none=0)
    for _ in range(rounds):
        memory, arrays = random_layout(random, 6)
        params, grads = arrays[:3], arrays[3:]
        memory[:] = 0
        if any(np.shares_memory(a, b) for k, a in enumerate(params) for b in params[:k]):
            refused["params"] += 1
            with pytest.raises(ValueError, match="overlaps"):
                CLASSES[rule](params, **options)
            continue
        optimizer = CLASSES[rule](params, **options)
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
    assert min(refused.values()) > rounds / 20, refused


@every_situation
def test_a_gradient_that_is_copied_may_lie_anywhere(rule, options):
    """A strided gradient is read before anything is written, so its memory does not matter."""
    block = np.arange(12, dtype=np.float32)
    param, grad = block[:6].reshape(2, 3), block[:12:2].reshape(2, 3)
    states = {name: np.ones((2, 3), np.float32) for name in states_of(rule, options)}
    after = expected(rule, options, dict(param=param.copy(), grad=grad.copy(), **copies(states)))
    function(rule)(param, grad, **states, **options)
    assert param.tobytes() == after["param"].tobytes()
    for name, array in states.items():
        assert array.tobytes() == after[name].tobytes()


def one_change_that_makes_a_state():
    """Two sets of options that differ in one, of which the second has a state more; for every rule that has such."""
    for rule in CLASSES:
        for before, after in permutations(structures(rule), 2):
            changed = [name for name in before if before[name] != after[name]]
            made = set(states_of(rule, after)) - set(states_of(rule, before))
            if len(changed) == 1 and made:
                yield pytest.param(rule, before, changed[0], after[changed[0]], made.pop(), id=f"{rule} {changed[0]}")
                break


@pytest.mark.parametrize(("owner", "options", "name", "value", "made"), list(one_change_that_makes_a_state()))
def test_overlap_with_state_that_an_option_makes(owner, options, name, value, made):
    """The old verdict on a gradient is forgotten."""
    param, grad = np.ones(8), np.ones(8)
    optimizer = CLASSES[owner]([param], **options)
    optimizer.step([grad])
    setattr(optimizer, name, value)
    with pytest.raises(ValueError, match="overlaps"):
        optimizer.step([optimizer.state[made][0]])


def test_a_longer_gradient_at_an_address_is_checked_anew():
    memory = np.ones(12, np.float32)
    params, one = {"a": memory[2:6], "b": np.zeros(1, np.float32)}, np.ones(1, np.float32)
    optimizer = instep.SGD(params, lr=1.0)
    optimizer.step({"a": memory[0:2].view(np.float16), "b": one})
    optimizer.step({"a": None, "b": one})
    before = memory.tobytes()
    with pytest.raises(ValueError, match="overlaps"):
        optimizer.step({"a": memory[0:4], "b": None})
    assert memory.tobytes() == before


@pytest.mark.parametrize("call", ["step", "bind"])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 4])
def test_a_gradient_that_is_zeroed_is_apart_from_all_others(call, start):
    params = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2)}
    optimizer = instep.SGD(params, lr=1.0, groups={"a": {"zero_grads": True}})
    memory = np.ones(6)
    grads = {"a": memory[2:4], "b": memory[start : start + 2], "c": memory[start : start + 2]}
    if start in (0, 4):
        getattr(optimizer, call)(grads)
        return
    with pytest.raises(ValueError, match=r"overlaps .* one of them would be set to 0: see zero_grads"):
        getattr(optimizer, call)(grads)
    assert (memory == 1).all()
    assert not any(param.any() for param in params.values())


MAPS = {  # the modes of two maps, the offset and number of elements of the second, and whether they overlap
    "all of it": ("r+", "r+", 0, 100, True),
    "its end": ("r+", "r+", 396, 1, True),
    "what follows": ("r+", "r+", 400, 50, False),
    "a private one": ("r+", "c", 0, 100, True),
    "of a private one": ("c", "r+", 0, 100, True),
    "two private ones": ("c", "c", 0, 100, False),
}


@pytest.mark.parametrize(("mode", "other", "offset", "size", "overlap"), MAPS.values(), ids=MAPS)
def test_two_maps_of_one_file(mode, other, offset, size, overlap, tmp_path):
    """They have other addresses, and the same memory."""
    np.zeros(150, np.float32).tofile(tmp_path / "map")
    os.link(tmp_path / "map", tmp_path / "link")
    first = np.memmap(tmp_path / "map", np.float32, mode, shape=100)[1:]
    second = np.memmap(tmp_path / "link", np.float32, other, offset, size)
    params = {"a": first, "b": second, "c": np.zeros(3)}
    if overlap:
        with pytest.raises(
            ValueError, match=r"params\['[ab]'\] overlaps params\['[ab]'\] in '.*', which both of them map"
        ):
            instep.SGD(params)
    else:
        instep.SGD(params, lr=1.0).step({name: np.ones(param.size, param.dtype) for name, param in params.items()})
        assert (first == -1).all()
        assert (second == -1).all()


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


class Box(dict):
    """Gives other items than it holds, as classes of configurations do."""

    def __getitem__(self, key):
        return self.unboxed(super().__getitem__(key))

    @staticmethod
    def unboxed(array):
        return array[1]


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
@every_situation
def test_nesting(rule, options, make):
    params = make()
    optimizer = CLASSES[rule](params, **options)
    assert same_shape(params, optimizer.params)
    grads = mapped_nest(params, np.ones_like)
    optimizer.step(grads)
    after = expected(rule, options, dict(param=ones(), grad=ones(), **start_arrays(rule, options, ones())))
    assert list(optimizer.state) == list(after)[2:]
    for nest, name in [(params, "param"), *((state, name) for name, state in optimizer.state.items())]:
        mapped_nest(nest, lambda array, name=name: np.testing.assert_array_equal(array, after[name]))
    assert all(same_shape(state, optimizer.state[name]) for name, state in optimizer.state.items())
    optimizer.bind(grads)
    optimizer.step()
    assert optimizer.step_count == 2


def test_order_of_keys_does_not_matter(rule):
    params = {"a": np.ones(3), "b": np.ones((2, 2)), "c": np.ones(1)}
    optimizer = CLASSES[rule](params)
    grads = {key: np.ones_like(params[key]) for key in "cab"}
    optimizer.step(grads)
    optimizer.bind(grads)
    optimizer.step()
    assert optimizer.step_count == 2


def test_a_subclass_of_dict_is_asked_for_its_items(rule):
    """For parameters and gradients alike; and one that makes what is missing is not made to."""
    optimizer = CLASSES[rule](Box(w=(None, ones()), b=(None, ones())))
    optimizer.step(Box(b=(None, ones()), w=(None, ones())))
    optimizer.step(collections.OrderedDict(b=ones(), w=ones()))
    other = CLASSES[rule]([ones(), ones()])
    for _ in range(2):
        other.step([ones(), ones()])
    for mine, its in zip(optimizer.params.values(), other.params, strict=True):
        assert mine.tobytes() == its.tobytes()
    making = collections.defaultdict(ones, w=ones(), c=ones())
    with pytest.raises(ValueError, match="missing 'b'; unknown 'c'"):
        optimizer.step(making)
    assert list(making) == ["w", "c"]


def test_lists_and_tuples_stand_for_each_other(rule):
    optimizer = CLASSES[rule]([(ones(), ones()), Layer(ones(), ones())])
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
    for optimizer in CLASSES.values():
        with pytest.raises((TypeError, ValueError), match=words):
            optimizer(params)


def test_nesting_without_end(rule):
    params = [np.ones(3)]
    params.append(params)
    with pytest.raises(ValueError, match="nested deeper"):
        CLASSES[rule](params)


def test_the_same_array_twice(rule):
    array = np.ones(3)
    with pytest.raises(ValueError, match="overlaps"):
        CLASSES[rule]([array, array])


def test_keys_are_named(rule):
    optimizer = CLASSES[rule]({"w": np.ones(3), "b": np.ones(3)})
    with pytest.raises(ValueError, match=r"missing 'b'.*unknown 'bias'"):
        optimizer.step({"w": np.ones(3), "bias": np.ones(3)})


def test_a_message_names_some_keys_of_many():
    params = {f"weight {k}": np.ones(1) for k in range(1000)}
    optimizer = instep.RMSprop(params)
    grads = params | {"x" * 1000: np.ones(1)}
    with pytest.raises(ValueError, match=r"than the params: unknown 'x{79}$"):
        optimizer.step(grads)
    del grads["x" * 1000], grads["weight 5"]
    with pytest.raises(ValueError, match=r"than the params: missing 'weight 5'$"):
        optimizer.step(grads)
    with pytest.raises(ValueError, match=r"missing 'weight 0', .*, 'weight 4' and 995 more; unknown 0, .*, 4 and 995"):
        optimizer.step(dict(enumerate(params.values())))
    with pytest.raises(KeyError, match=r"there are 'weight 0', .*, 'weight 4' and 995 more\"$"):
        optimizer.step_one("weight 1000", np.ones(1))


def test_a_message_cuts_a_long_key():
    optimizer = instep.RMSprop({"x" * 100_000: np.ones(1)})
    with pytest.raises(TypeError, match=r"^grads\['x{199}\] must be"):
        optimizer.step({"x" * 100_000: 1})


@every_situation
def test_none_leaves_an_array_alone(rule, options):
    params = [np.ones(3), np.ones(3)]
    optimizer = CLASSES[rule](params, **options)
    starts = start_arrays(rule, options, np.ones(3))
    optimizer.step([np.ones(3), None])
    assert (params[1] == 1).all()
    for name, start in starts.items():
        assert optimizer.state[name][1].tobytes() == start.tobytes()
    assert optimizer.step_count == 1
    assert optimizer._snapshot()[2:4] == (1, [1, 0])
    optimizer.step([np.ones(3), np.ones(3)])
    first = expected(rule, options, dict(param=np.ones(3), grad=np.ones(3), **starts), step_count=1)
    assert params[1].tobytes() == first["param"].tobytes()
    for name in starts:
        assert optimizer.state[name][1].tobytes() == first[name].tobytes()
    assert optimizer._snapshot()[2:4] == (2, [2, 1])
    before = [array.tobytes() for array in params]
    for grads in ([None, None], None):
        with pytest.raises((TypeError, ValueError)):
            optimizer.step(grads)
    assert [array.tobytes() for array in params] == before
    assert optimizer._snapshot()[2:4] == (2, [2, 1])


def test_float32_and_float64_side_by_side(rule):
    random = np.random.default_rng(5)
    for options in one_of_each_loop(rule):
        dtypes = ["float32", "float64", "float32"]
        every = [
            {name: random.random(5).astype(d) for name in ("param", "grad", *states_of(rule, options))} for d in dtypes
        ]
        after = [expected(rule, options, arrays) for arrays in every]
        optimizer = CLASSES[rule]([arrays["param"] for arrays in every], **options)
        states = {name: [arrays[name] for arrays in every] for name in states_of(rule, options)}
        optimizer._adopt(optimizer._options, states)
        optimizer.step([arrays["grad"] for arrays in every])
        for actual, wanted in zip(every, after, strict=True):
            assert_same_bits(actual, wanted, str(options))


@every_situation
def test_step_one_counts_a_sweep_as_one_step(rule, options):
    params = {"a": np.ones(3), "b": [np.ones(3), np.ones(3)]}
    optimizer = CLASSES[rule](params, **options)
    for sweep in (1, 2, 3):
        optimizer.step_one("a", np.ones(3))
        optimizer.step_one(("b", 0), np.ones(3))
        optimizer.step_one(("b", 1), np.ones(3))
        assert optimizer.step_count == sweep
    whole = CLASSES[rule]([np.ones(3)], **options)
    for _ in range(3):
        whole.step([np.ones(3)])
    for array in (params["a"], *params["b"]):
        assert array.tobytes() == whole.params[0].tobytes()


@pytest.mark.parametrize(
    ("of_param", "of_grad", "hint"),
    [
        ("float32", "float64", "fewer bits: pass NAME.astype(np.float32), or make the parameter float64"),
        ("float64", "longdouble", "expected float64 or a float of fewer bits: pass NAME.astype(np.float64)"),
        ("float32", "int64", "expected float32 or a float of fewer bits: pass NAME.astype(np.float32)"),
        ("float64", ">f8", "expected float64 or a float of fewer bits: pass NAME.astype(np.float64)"),
        ("float32", "complex64", "pass its real part, NAME.real.astype(np.float32), if the rest is to be dropped"),
    ],
)
def test_a_gradient_of_another_type_is_told_how_to_fit(rule, of_param, of_grad, hint):
    """The hint is right, too: a gradient converted so is taken."""
    optimizer = CLASSES[rule]({"w": np.ones(3, of_param)})
    grad = np.ones(3, of_grad)
    for name, give in (
        ("grads['w']", lambda grad: optimizer.step({"w": grad})),
        ("grads['w']", lambda grad: optimizer.bind({"w": grad})),
        ("grad['w']", lambda grad: optimizer.step_one("w", grad)),
    ):
        with pytest.raises(TypeError) as error:
            give(grad)
        assert str(error.value).startswith(f"{name} has dtype {grad.dtype}, ")
        assert str(error.value).endswith(hint.replace("NAME", name))
        give(np.real(grad).astype(of_param))


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ([{"params": [np.ones(2)], "lr": 0.1}], "params[0]['lr']"),
        ({"params": [np.ones(2)], "lr": 0.1}, "params['lr']"),
    ],
    ids=["groups of torch", "one of them"],
)
def test_an_option_among_the_params_is_told_where_it_goes(params, place):
    with pytest.raises(TypeError) as error:
        instep.RMSprop(params)
    assert str(error.value) == (
        f"{place} must be a numpy.ndarray, not a value of type float; options of some arrays are given beside the "
        "params, as in groups={'*/bias': {'lr': 0.1}}"
    )


def test_a_state_of_another_type_is_not_to_be_converted_on_the_way():
    message = "^square_avg has dtype float64, expected float32: make it with that dtype$"
    with pytest.raises(TypeError, match=message):
        instep.rmsprop(np.ones(3, "float32"), np.ones(3, "float32"), np.ones(3))


def test_an_ellipsis_is_no_gradient():
    """A signature shows step(grads=...)."""
    optimizer = instep.SGD(np.ones(3), lr=0.1)
    optimizer.bind(np.ones(3))
    with pytest.raises(TypeError, match=r"^grads must be a numpy\.ndarray"):
        optimizer.step(...)


def test_step_one_needs_a_gradient(rule):
    optimizer = CLASSES[rule]([np.ones(3)])
    with pytest.raises(TypeError, match=r"^grad\[0\] must be"):
        optimizer.step_one(0, None)
    with pytest.raises(ValueError, match=r"^grad\[0\] has shape"):
        optimizer.step_one(0, np.ones(4))
    with pytest.raises(ValueError, match=r"^grad\[0\] overlaps"):
        optimizer.step_one(0, optimizer.params[0])


def test_a_key_that_means_two_arrays_is_refused(rule):
    params = {"a": {"b": ones()}, ("a", "b"): ones(), "c": ones()}
    optimizer = CLASSES[rule](params)
    with pytest.raises(KeyError, match=r"both params\['a'\]\['b'\] and params\[\('a', 'b'\)\].* is the latter alone"):
        optimizer.step_one(("a", "b"), ones())
    with pytest.raises(KeyError, match=r"there are \('a', 'b'\), \(\('a', 'b'\),\), 'c'"):
        optimizer.step_one("a", ones())
    assert optimizer._snapshot()[2:4] == (0, [0, 0, 0])
    optimizer.step_one((("a", "b"),), ones())
    optimizer.step_one("c", ones())
    assert optimizer._snapshot()[2:4] == (1, [0, 1, 1])


@every_situation
def test_the_count_is_64_bits_wide(rule, options):
    optimizer = CLASSES[rule]([np.ones(3)], **options)
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


def test_no_array_is_ahead_of_the_count(rule):
    optimizer = CLASSES[rule]([np.ones(3), np.ones(3)])
    with pytest.raises(ValueError, match="cannot have taken 3 of 2 steps"):
        optimizer._adopt(optimizer._options, optimizer._states, 2, [1, 3])
    assert optimizer._snapshot()[2:4] == (0, [0, 0])


def test_step_count_cannot_be_assigned(rule):
    optimizer = CLASSES[rule]([np.ones(3)])
    for name in ("step_count", "params", "state", "options"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 1)


@every_situation
def test_bind(rule, options):
    params, grads = [np.ones(3), np.ones((2, 2))], [np.ones(3), np.ones((2, 2))]
    optimizer, other = (CLASSES[rule]([array.copy() for array in params], **options) for _ in range(2))
    params = optimizer.params
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


def test_bound_gradients_are_kept_alive(rule):
    grad = np.ones(100_000)
    optimizer = CLASSES[rule]([np.ones(100_000)])
    before = sys.getrefcount(grad)
    optimizer.bind([grad])
    assert sys.getrefcount(grad) > before
    optimizer.step([np.ones(100_000)])
    optimizer.step()
    optimizer.bind(None)
    assert sys.getrefcount(grad) == before


def test_gradients_of_a_step_are_let_go(rule):
    grad = np.ones(10)
    optimizer = CLASSES[rule]([np.ones(10)])
    before = sys.getrefcount(grad)
    for _ in range(3):
        optimizer.step([grad])
        optimizer.step_one(0, grad)
        with pytest.raises(ValueError, match="has 2 items"):
            optimizer.step([grad, grad])
    assert sys.getrefcount(grad) == before


def test_forgotten_gradients_are_forgotten(rule):
    optimizer = CLASSES[rule]([np.ones(3)])
    optimizer.bind([np.ones(3)])
    optimizer.step()
    optimizer.bind(None)
    with pytest.raises(TypeError, match="needs bind"):
        optimizer.step()
    assert optimizer.step_count == 1


def test_what_was_bound_stays_bound_when_bind_is_refused(rule):
    param, grad = np.ones(3), np.ones(3)
    optimizer = CLASSES[rule]([param])
    optimizer.bind([grad])
    with pytest.raises(ValueError, match="shape"):
        optimizer.bind([np.ones(4)])
    optimizer.step()
    other = CLASSES[rule]([np.ones(3)])
    other.step([grad])
    assert param.tobytes() == other.params[0].tobytes()


def test_an_optimizer_is_neither_copied_nor_pickled(rule):
    """Two optimizers on the same arrays, or one on copies that nobody holds: both would be silently wrong."""
    optimizer = CLASSES[rule]([np.ones(3)])
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(optimizer)


def test_an_optimizer_is_made_once(rule):
    optimizer = CLASSES[rule]([np.ones(3)])
    with pytest.raises(TypeError, match="once"):
        optimizer.__init__([np.ones(3)])


USES = """
    made.step([np.ones(3)])
    made.step_one(0, np.ones(3))
    made.bind([np.ones(3)])
    made.lr
    made.lr = 1.0
    made.step()
    made.params
    made.state
    made.state_dict()
    made.options
    repr(made)
"""


def test_an_optimizer_that_was_not_initialized_does_not_crash(rule):
    code = f"""
import numpy as np, instep
made = instep.{CLASSES[rule].__name__}.__new__(instep.{CLASSES[rule].__name__})
for use in {USES.split(chr(10))!r}:
    try:
        exec(use.strip())
    except (TypeError, AttributeError, ValueError, RuntimeError):
        pass
"""
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False).returncode == 0


def test_repr(rule):
    assert repr(CLASSES[rule](np.ones(3))).startswith(f"{CLASSES[rule].__name__}(1 array, ")
    text = repr(CLASSES[rule]([np.ones(3), np.ones(2)]))
    assert text.startswith(f"{CLASSES[rule].__name__}(2 arrays, ")
    for name, value in defaults(rule).items():
        assert f"{name}={value!r}" in text


VARIANTS = [cls for cls in vars(instep).values() if isinstance(cls, type) and issubclass(cls, Optimizer)]
VARIANTS = [cls for cls in VARIANTS if cls is not Optimizer]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda cls: cls.__name__)
def test_presets_are_accepted(variant):
    for name, options in instep.presets(variant.__name__.lower()).items():
        optimizer = variant.preset(name, [np.ones(3, np.float32)], **({} if "lr" in options else dict(lr=0.1)))
        assert optimizer.options == variant._defaults | dict(lr=0.1) | options
        optimizer.step([np.ones(3, np.float32)])


def test_the_function_takes_every_combination_the_class_takes(rule):
    parameters = inspect.signature(function(rule)).parameters
    for options in combinations(rule):
        assert set(options) | set(states_of(rule, options)) <= set(parameters)


# ---- what changes after it was checked --------------------------------------------------------------------------


def freeze(array):
    array.flags.writeable = False


def retype(array):
    array.dtype = np.int32


def swap(array):
    array.dtype = np.dtype(np.float32).newbyteorder()


def transpose(array):
    array.strides = array.strides[::-1]


def halve(array):
    """Other memory, or the same one, of which the rest belongs to others now."""
    array.__setstate__((1, (32, 64), array.dtype, False, array.tobytes()[: array.nbytes // 2]))


CHANGES = [
    (freeze, "has become read-only"),
    (retype, "its dtype is dtype"),
    (swap, "its dtype is dtype"),
    (transpose, "its strides are"),
    (halve, r"its shape is \(32, 64\)"),
]


def square(value=1.0):
    return np.full((64, 64), value, np.float32)


def doors_to(optimizer):
    """The calls that step the array at "w", by gradients that are right for it."""
    grads = {"w": square(), "b": np.ones(3)}
    return [lambda: optimizer.step(grads), lambda: optimizer.step_one("w", grads["w"]), optimizer.step]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # NumPy 2.5 warns of most of them, and they still work
@pytest.mark.parametrize(("change", "words"), CHANGES)
@every_situation
def test_what_is_no_longer_what_it_was_is_not_written(rule, options, change, words):
    for name in ("params", *states_of(rule, options)):
        optimizer = CLASSES[rule]({"w": square(), "b": np.ones(3)}, **options)
        optimizer.bind({"w": square(), "b": np.ones(3)})
        optimizer.step()
        changed = optimizer.params["w"] if name == "params" else optimizer.state[name]["w"]
        change(changed)
        arrays = [*optimizer.params.values(), *chain(*(state.values() for state in optimizer.state.values()))]
        before = [array.tobytes() for array in arrays]
        where = re.escape("params['w']" if name == "params" else f"state['{name}']['w']")
        for act in doors_to(optimizer):
            with pytest.raises((ValueError, TypeError), match=rf"{where} .*{words}"):
                act()
        if name != "params" and change is not freeze:
            with pytest.raises(ValueError, match=words):
                optimizer.state_dict()
        assert [array.tobytes() for array in arrays] == before
        assert optimizer.step_count == 1
        optimizer.bind({"w": None, "b": np.ones(3)})  # which does not write it
        optimizer.step()
        assert optimizer.step_count == 2
        if change is freeze:
            changed.flags.writeable = True
            optimizer.bind({"w": square(), "b": np.ones(3)})
            for act in doors_to(optimizer):
                act()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", [freeze, retype, swap, transpose, halve])
def test_a_bound_gradient_is_checked_anew_when_it_was_changed(rule, change):
    grad, param = square(), square()
    optimizer = CLASSES[rule]({"w": param, "b": np.ones(3)})
    optimizer.bind({"w": grad, "b": np.ones(3)})
    optimizer.step()
    change(grad)
    before = param.tobytes()
    if change is freeze:
        optimizer.step()
        return
    for between in (lambda: None, lambda: optimizer.step({"w": None, "b": np.ones(3)})):
        between()
        with pytest.raises((ValueError, TypeError), match=r"grads\['w'\]"):
            optimizer.step()
    assert param.tobytes() == before


def test_a_bound_gradient_may_move(rule):
    """Or be of another object that is the same dtype."""
    params, others = [square(), np.ones(3)], [square(), np.ones(3)]
    optimizer, other = CLASSES[rule](params), CLASSES[rule](others)
    grads = [square(), np.ones(3)]
    optimizer.bind(grads)
    for t in range(4):
        optimizer.step()
        other.step(grads)
        grads[0].__setstate__(square(t).__reduce__()[2])
        grads[1] = grads[1][:]
        grads[0].dtype = pickle.loads(pickle.dumps(grads[0].dtype))
    for mine, its in zip(params, others, strict=True):
        assert mine.tobytes() == its.tobytes()


def test_what_was_unpickled_is_stepped(rule):
    """Its dtype may be another object than NumPy's own."""
    param, grad = (pickle.loads(pickle.dumps(square())) for _ in range(2))
    optimizer = CLASSES[rule]([param])
    optimizer.bind([grad])
    optimizer.step()
    optimizer.step([grad])
    optimizer.step_one(0, grad)
    other = CLASSES[rule]([square()])
    for _ in range(3):
        other.step([square()])
    assert param.tobytes() == other.params[0].tobytes()


def test_what_is_stepped_cannot_be_resized(rule):
    param, grad = np.ones(4096), np.ones(4096)
    optimizer = CLASSES[rule]([param])
    optimizer.bind([grad])
    for array in (param, grad, *(state[0] for state in optimizer.state.values())):
        for size in (1, 1 << 20):
            with pytest.raises(ValueError, match="resize"):
                array.resize(size, refcheck=False)
    optimizer.bind(None)
    grad.resize(1, refcheck=False)


def test_a_list_of_gradients_may_change_while_it_is_looked_at(rule):
    grads = [np.ones(3) for _ in range(50)]

    class Changing(np.ndarray):
        @property
        def __dlpack__(self):
            grads.clear()
            raise AttributeError

    grads[0] = np.ones(3).view(Changing)
    with pytest.raises(TypeError, match=r"grads\[0\]"):
        CLASSES[rule]([np.ones(3) for _ in range(50)]).step(grads)


def asks_of_a_dict(grads, change):
    class Asked(dict):
        def __getitem__(self, key):
            if key == "b":
                change()
            return super().__getitem__(key)

    return Asked(grads)


def asks_of_a_list(grads, change):
    class Asked(list):
        def __iter__(self):
            change()
            return super().__iter__()

    return {"a": grads["a"], "b": Asked(grads["b"])}


ASKED = {"dict": (np.ones(400), asks_of_a_dict), "list": ([np.ones(400)], asks_of_a_list)}
WHILE_ASKED = {
    "memory": lambda array: array.__setstate__(np.zeros(array.size).__reduce__()[2]),
    "size": lambda array: array.__setstate__(np.zeros(1).__reduce__()[2]),
    "dtype": lambda array: setattr(array, "dtype", np.int64),
    "shape": lambda array: setattr(array, "shape", (20, 20)),
}


@pytest.mark.parametrize("changed", ["param", "state", "grad"])
@pytest.mark.parametrize(
    "shapes", [((6,), (6, 1)), ((6,), (2, 3)), ((2, 3), (3, 2)), ((2, 3, 4), (3, 2, 4)), ((), (1,))]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_array_that_was_reshaped_in_place_is_refused(tmp_path, shapes, changed):
    before, after = shapes
    params, grads = np.zeros(before), np.ones(before)
    optimizer = instep.RMSprop(params)
    optimizer.bind(grads)
    optimizer.step()
    target = {"param": params, "state": optimizer.state["square_avg"], "grad": grads}[changed]
    target.shape = after
    with pytest.raises(ValueError, match=re.escape(str(after))):
        optimizer.step()
    if changed == "state":
        with pytest.raises(ValueError, match=r"its shape is"):
            optimizer.save(tmp_path / "checkpoint")
    target.shape = before
    optimizer.step()
    assert optimizer.step_count == 2


@pytest.mark.parametrize("call", ["step", "bind", "accumulate"])
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("changed", ["param", "state", "grad"])
@pytest.mark.parametrize("change", WHILE_ASKED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_changes_while_a_nesting_is_asked_for_its_items_is_checked_again(call, asked, changed, change):
    other, ask = ASKED[asked]
    params = {"a": np.zeros(400), "b": copy.deepcopy(other)}
    grads = {"a": np.ones(400), "b": copy.deepcopy(other)}
    optimizer = instep.RMSprop(params)
    target = {"param": params["a"], "state": optimizer.state["square_avg"]["a"], "grad": grads["a"]}[changed]
    with pytest.raises(ValueError, match=r"was changed in place|is not what it was"):
        getattr(optimizer, call)(ask(grads, lambda: WHILE_ASKED[change](target)))
    assert optimizer.step_count == 0
    assert not params["a"].any()
    with pytest.raises(TypeError, match="bind"):
        optimizer.step()


LONG_NAME = "x" * 100_000
OF_A_LONG_NAME = {
    "key": lambda: instep.SGD({"a": np.zeros(2)}).step_one(LONG_NAME, np.zeros(2)),
    "option": lambda: instep.SGD(np.zeros(2), **{LONG_NAME: 1}),
    "assigned": lambda: setattr(instep.SGD(np.zeros(2)), LONG_NAME, 1),
    "argument": lambda: instep.sgd(np.zeros(2), np.zeros(2), **{LONG_NAME: 1}),
    "pattern": lambda: instep.SGD({"a": np.zeros(2)}, groups={LONG_NAME: {"lr": 1.0}}),
    "number": lambda: instep.SGD(np.zeros(2), lr=10**5000),
    "twin": lambda: getattr(instep.reference, LONG_NAME),
}


@pytest.mark.parametrize("mistake", OF_A_LONG_NAME)
def test_a_message_does_not_repeat_all_of_a_huge_name(mistake):
    with pytest.raises((KeyError, TypeError, AttributeError, ValueError)) as raised:
        OF_A_LONG_NAME[mistake]()
    assert len(str(raised.value)) < 1000
    if mistake == "number":
        assert str(raised.value).startswith("lr must be finite")


def test_the_way_around_an_ambiguous_key_is_not_ambiguous():
    params = {"x": np.zeros(2), ("x",): np.zeros(2), (("x",),): np.zeros(2)}
    optimizer = instep.SGD(params)
    with pytest.raises(KeyError, match="rename one of the keys") as raised:
        optimizer.step_one(("x",), np.ones(2))
    assert "alone" not in str(raised.value)
    with pytest.raises(KeyError, match="is the latter alone"):
        optimizer.step_one((("x",),), np.ones(2))
    optimizer.step_one(((("x",),),), np.ones(2))
    assert params[(("x",),)].all()
