"""A state in arrays that are given, and a model in files that are larger than the memory it may have."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import instep
import keywords
from instep._core import Options
from trials import CLASSES, situations, start_arrays

SITUATIONS = situations()
every_situation = pytest.mark.parametrize(("rule", "options"), SITUATIONS.values(), ids=SITUATIONS)
PROGRAM = Path(__file__).with_name("past_memory.py")
MIB = 1 << 20


def model(dtype):
    random = np.random.default_rng(1)
    return {
        "layers": [random.normal(size=(5, 7)).astype(dtype, order="F"), random.normal(size=3).astype(dtype)],
        "scale": np.ones((), dtype),
    }


def arrays_of(nesting):
    return [*nesting["layers"], nesting["scale"]]


def built(model, make):
    return {"scale": make(model["scale"]), "layers": tuple(make(array) for array in model["layers"])}


def state_for(rule, options, params):
    """State arrays as they start, of what no optimizer has made."""
    names = start_arrays(rule, options, params["scale"])
    return {name: built(params, lambda p, name=name: start_arrays(rule, options, p)[name]) for name in reversed(names)}


def gradients(step, params):
    random = np.random.default_rng(step)
    return built(params, lambda p: random.normal(size=p.shape).astype(p.dtype))


@every_situation
def test_a_given_state_is_stepped_in_place_with_the_same_bits(rule, options, dtype):
    theirs, ours = model(dtype), model(dtype)
    state = state_for(rule, options, ours)
    expected = CLASSES[rule](theirs, **options)
    optimizer = CLASSES[rule](ours, **options, state=state)
    for step in range(3):
        expected.step(gradients(step, theirs))
        optimizer.step(gradients(step, ours))
    for a, b in zip(arrays_of(theirs), arrays_of(ours), strict=True):
        assert a.tobytes() == b.tobytes()
    for name, arrays in state.items():
        for a, b, c in zip(*map(arrays_of, (expected.state[name], arrays, optimizer.state[name])), strict=True):
            assert a.tobytes() == b.tobytes()
            assert b is c


@every_situation
def test_goes_on_from_state_and_count(rule, options):
    params = model("float32")
    first = CLASSES[rule](params, **options)
    first.step(gradients(0, params))
    first.step(gradients(1, params))
    copied = built(params, np.copy)
    second = CLASSES[rule](copied, **options, state=built_state(first), step_count=first.step_count)
    assert second.step_count == 2
    first.step(gradients(2, params))
    second.step(gradients(2, params))
    for a, b in zip(arrays_of(params), arrays_of(copied), strict=True):
        assert a.tobytes(order="A") == b.tobytes(order="A")
    assert second._snapshot()[2:4] == first._snapshot()[2:4]


def built_state(optimizer):
    return {name: built(nesting, lambda array: array.copy("K")) for name, nesting in optimizer.state.items()}


def read_only(array):
    array.flags.writeable = False
    return array


# What is done to a state of two arrays, "square_avg" and "momentum_buffer", over params {"a": (2, 3), "b": (4,)}.
REFUSED = {
    "not a dict": (
        lambda s: [s],
        TypeError,
        "must be a dict of the state arrays by name, not a value of type list",
    ),
    "a name less": (
        lambda s: {"momentum_buffer": s["momentum_buffer"]},
        ValueError,
        "state must hold '.*', '.*', and holds 'momentum_buffer'",
    ),
    "a name more": (lambda s: s | {"m": s["momentum_buffer"]}, ValueError, "and holds '.*', '.*', 'm'"),
    "nothing": (lambda s: {}, ValueError, "and holds nothing"),
    "an array less": (
        lambda s: s | {"momentum_buffer": {"a": s["momentum_buffer"]["a"]}},
        ValueError,
        r"there is no state\['momentum_buffer'\]\['b'\], a state of its parameter",
    ),
    "an array more": (
        lambda s: s | {"momentum_buffer": s["momentum_buffer"] | {"c": np.zeros(1)}},
        ValueError,
        r"state\['momentum_buffer'\]\['c'\] is the state of no parameter",
    ),
    "a list": (
        lambda s: s | {"momentum_buffer": s["momentum_buffer"] | {"b": [0.0] * 4}},
        ValueError,
        r"there is no state\['momentum_buffer'\]\['b'\], a state of its parameter",
    ),
    "another shape": (
        lambda s: s | {"momentum_buffer": s["momentum_buffer"] | {"b": np.zeros(5)}},
        ValueError,
        r"state\['momentum_buffer'\]\['b'\] has shape \(5,\), expected \(4,\)",
    ),
    "another dtype": (
        lambda s: s | {"momentum_buffer": s["momentum_buffer"] | {"b": np.zeros(4, np.float32)}},
        TypeError,
        r"state\['momentum_buffer'\]\['b'\] has dtype float32, expected float64",
    ),
    "another order": (
        lambda s: s | {"momentum_buffer": s["momentum_buffer"] | {"a": np.zeros((2, 3), order="F")}},
        ValueError,
        r"state\['momentum_buffer'\]\['a'\] must have the memory layout of its parameter",
    ),
    "a negative average of squares": (
        lambda s: s | {"square_avg": s["square_avg"] | {"b": np.array([0.0, np.nan, np.inf, -1e-300])}},
        ValueError,
        r"state\['square_avg'\]\['b'\] holds a negative number, which no step leaves there",
    ),
    "read-only": (
        lambda s: s | {"momentum_buffer": s["momentum_buffer"] | {"b": read_only(np.zeros(4))}},
        ValueError,
        r"state\['momentum_buffer'\]\['b'\] .*read-only",
    ),
    "one array twice": (
        lambda s: s | {"momentum_buffer": s["square_avg"]},
        ValueError,
        r"state\['\w+'\]\['\w'\] overlaps state\['\w+'\]\['\w'\] in memory",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_state_that_does_not_fit_is_refused(kind):
    change, exception, words = REFUSED[kind]
    params = {"a": np.ones((2, 3)), "b": np.ones(4)}
    state = {
        name: {key: np.zeros_like(array) for key, array in params.items()} for name in ("square_avg", "momentum_buffer")
    }
    instep.RMSprop(params, momentum=0.9, state=state)
    with pytest.raises(exception, match=words):
        instep.RMSprop(params, momentum=0.9, state=change(state))


def test_a_negative_number_is_found_wherever_it_is(rule):
    """In every state that has none; where there may be one, it is taken."""
    never_negative = Options(rule).never_negative
    for name in CLASSES[rule](np.ones(1)).state:
        for size in (1, 2**20, 2**20 + 3):
            for place in {0, size - 1}:
                state = {other: np.zeros(size) for other in CLASSES[rule](np.ones(1)).state}
                state[name][place] = -1.0
                if name in never_negative:
                    with pytest.raises(ValueError, match=rf"^state\['{name}'\] holds a negative number"):
                        CLASSES[rule](np.ones(size), state=state)
                else:
                    CLASSES[rule](np.ones(size), state=state)


def test_a_row_cannot_have_been_stepped_later():
    state = {"square_avg": np.zeros((3, 2)), "row_steps": np.array([0, 5, 4])}
    instep.RMSprop(np.ones((3, 2)), exact_rows=True, state=state, step_count=5)
    for bad in (6, -1):
        state["row_steps"][0] = bad
        with pytest.raises(
            ValueError, match=r"^state\['row_steps'\] holds a number that is not of a step that was taken"
        ):
            instep.RMSprop(np.ones((3, 2)), exact_rows=True, state=state, step_count=5)


def test_a_state_that_is_a_parameter_is_refused():
    params = [np.ones(3)]
    with pytest.raises(ValueError, match=r"overlaps"):
        instep.RMSprop(params, state={"square_avg": params})


def test_a_count_needs_a_state():
    with pytest.raises(ValueError, match="step_count=3 is how many steps a state has taken: give that too"):
        instep.RMSprop(np.ones(3), step_count=3)
    for bad in (-1, 1.0, True, "1", 2**70, np.int8(-1), np.bool_(True), np.float64(1)):
        with pytest.raises((TypeError, ValueError), match=r"step_count.* must be an integer"):
            instep.RMSprop(np.ones(3), state={"square_avg": np.zeros(3)}, step_count=bad)
    for good in (np.int64(3), np.uint8(3), np.array(3)):  # as numpy.load gives it back
        given = instep.RMSprop(np.ones(3), state={"square_avg": np.zeros(3)}, step_count=good)
        assert given.step_count == 3
        assert type(given.state_dict()["step_counts"][""]) is int


@pytest.mark.parametrize("keyword", [name for name in keywords.KEYWORDS if name != "seed"])
def test_goes_with_every_keyword(keyword):
    made, theirs = keywords.make([keyword])
    given, ours = keywords.make([keyword])
    state = {name: {key: array.copy() for key, array in arrays.items()} for name, arrays in given.state.items()}
    optimizer = instep.RMSprop(ours, centered=True, **keywords.KEYWORDS[keyword], state=state)
    for each, params in ((made, theirs), (optimizer, ours)):
        each.step(keywords.grads_of(params))
    for name, arrays in made.state.items():
        for key, array in arrays.items():
            assert state[name][key] is optimizer.state[name][key]
            assert array.tobytes() == state[name][key].tobytes()
            assert theirs[key].tobytes() == ours[key].tobytes()


def test_the_state_of_eight_bits_is_given_alike():
    params = [np.ones(300, np.float32)]
    made = instep.RMSprop([params[0].copy()], state_dtype="8bit")
    given = {name: [array.copy() for array in arrays] for name, arrays in made.state.items()}
    optimizer = instep.RMSprop(params, state_dtype="8bit", state=given)
    for each in (made, optimizer):
        each.step([np.full(300, 0.5, np.float32)])
    assert given["square_avg"][0].tobytes() == made.state["square_avg"][0].tobytes()
    with pytest.raises((ValueError, TypeError), match=r"state\['square_avg'\]\[0\] has (shape|dtype)"):
        instep.RMSprop(params, state_dtype="8bit", state={"square_avg": [np.zeros(300, np.float32)]})


@pytest.mark.parametrize("name", ["grad_avg", "square_avg"])
def test_bytes_that_no_step_leaves_are_found_wherever_they_are(name):
    """As in a state that is loaded: they would be read as other numbers than are written, or as NaN."""
    for size in (1, 256, 257, 300, 256 * 4096 + 1):
        fit = size + -(-size // 256)
        for block in {0, -(-size // 256) - 1}:
            for code, exponent in [(0, 5), (1, 0), (1, 5)]:
                state = {"grad_avg": np.zeros(fit, np.int8), "square_avg": np.zeros(fit, np.uint8)}
                state[name][size + block] = exponent
                state[name][min(256 * block + 255, size - 1)] = code
                with pytest.raises(
                    ValueError, match=rf"^state\['{name}'\] holds an exponent that no step leaves there"
                ):
                    instep.Adam(np.ones(size, np.float32), state_dtype="8bit", state=state, step_count=1)


def test_bytes_of_zeros_are_a_state_of_zeros(rule, tmp_path):
    """Given, stepped or not, saved and loaded."""
    given = [np.ones(300, np.float32), np.ones(3, np.float32)]
    made = [param.copy() for param in given]
    a = CLASSES[rule](made, lr=0.1, state_dtype="8bit")
    starts = Options(rule).states
    state = {name: [np.zeros_like(array) for array in arrays] for name, arrays in a.state.items()}
    for name in starts:
        if starts[name] != 0:
            state[name] = [array.copy() for array in a.state[name]]
    b = CLASSES[rule](given, lr=0.1, state_dtype="8bit", state=state)
    for _ in range(2):
        for each in (a, b):
            each.step([np.full(300, 0.5, np.float32), None])
    assert given[0].tobytes() == made[0].tobytes()
    for name, arrays in a.state.items():
        assert arrays[0].tobytes() == b.state[name][0].tobytes()
    b.save(tmp_path / "checkpoint")
    again = instep.load(tmp_path / "checkpoint", [given[0].copy(), given[1].copy()])
    b.load_state_dict(again.state_dict())
    for each in (b, again):
        each.step([np.full(300, 0.5, np.float32), np.full(3, 0.5, np.float32)])
    for one, other in zip(b.params, again.params, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("bits", [ml_dtypes.bfloat16, np.float16])
def test_a_master_that_is_not_its_parameter_is_refused(bits):
    """A step would write it over what it was given beside.  Rounded either way it is taken, and one of few bits too."""
    random = np.random.default_rng(3)
    wide = (random.standard_normal((5, 700)) * 10.0 ** random.uniform(-44, 4, (5, 700))).astype(np.float32)
    wide[0, :3] = np.inf, np.nan, 0
    nearest = wide.astype(bits)
    for param in (nearest, np.asfortranarray(nearest)):
        master = np.copy(wide, order="F" if param.flags.f_contiguous else "C")
        instep.SGD([param.copy("K")], master="float32", state={"param_master": [master]})
    for place in ((0, 0), (4, 699)):
        param = np.ones((5, 700), bits)
        param[place] += np.finfo(np.float16).eps * 16
        with pytest.raises(ValueError, match=r"^state\['param_master'\]\[0\] is not its parameter in float32"):
            instep.SGD([param], master="float32", state={"param_master": [np.ones((5, 700), np.float32)]})
    with pytest.raises(ValueError, match="is not its parameter"):
        instep.SGD([np.ones(3, bits)], master="float32", state={"param_master": [np.zeros(3, np.float32)]})
    state = {"param_master": [np.zeros(0, np.float32)]}
    instep.SGD([np.ones(3)], master="float32", state=state)


# ---- files under a limit ----------------------------------------------------------------------------------------


@contextmanager
def control_group(limit):
    """The file to write a process's number to, or None where no group can be made."""
    roots = {
        Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
        Path("/sys/fs/cgroup"): "memory.max",
    }
    for root, name in roots.items():
        group = root / f"instep-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            try:
                (group / name).write_text(str(limit))  # fails where the folder is none of memory's
            except OSError:
                group.rmdir()
                continue
            yield group / "cgroup.procs"
            group.rmdir()
            return
    yield None


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
@pytest.mark.parametrize("rule", ["rmsprop", "adam"])
def test_a_model_in_files_larger_than_its_memory(rule, tmp_path):
    """Files of 256 MiB and no more than 48 for all that is no file; in all 96 MiB where a control group can be made.

    A control group counts the pages of files too.
    """
    with control_group(96 * MIB) as group:
        arguments = [rule, tmp_path, 48 * MIB, *([group] if group else [])]
        done = subprocess.run(
            [sys.executable, PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["differing"] == 0
    assert found["steps"] == 2
    assert found["grown"] < 16 * MIB, "memory that is of no file grew with the model"
