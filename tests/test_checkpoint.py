"""Saved state: resumed from to the bit, readable by others, refused as a whole where it does not fit."""

import copy
import json
import os
import pickle
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import instep
from floating_point import MODES, floating_point_mode
from instep.checkpoint import file as checkpoint_file
from instep.checkpoint.state_dict import read_path, spell_path

OPTIONS = {
    "plain": dict(lr=0.1),
    "momentum": dict(lr=0.1, momentum=0.9, weight_decay=0.01),
    "bias_correction": dict(lr=0.1, momentum=0.5, nesterov=True, lr_in_momentum=True, bias_correction=True),
    "centered": dict(lr=0.1, momentum=0.9, centered=True, eps_inside=True, initial_square_avg=1.0),
}


def make_params():
    """Every kind of key and of array that can be saved."""
    rng = np.random.default_rng(0)
    return {
        "weight": rng.normal(size=(5, 3)).astype(np.float32),
        0: np.asfortranarray(rng.normal(size=(4, 3))),
        "0": [rng.normal(size=7), (np.array(0.5), np.zeros((0, 4), np.float32))],
        "a/b~c": {"": rng.normal(size=2), "'": rng.normal(size=1).astype(np.float32)},
    }


def make_grads(rng):
    """Like the params; the array under 0 has a gradient every other time, so that the counts differ."""
    return {
        "weight": rng.normal(size=(5, 3)).astype(np.float32),
        0: rng.normal(size=(4, 3)) if rng.integers(2) else None,
        "0": [rng.normal(size=7), (np.array(rng.normal()), np.zeros((0, 4), np.float32))],
        "a/b~c": {"": rng.normal(size=2), "'": rng.normal(size=1).astype(np.float32)},
    }


def run(optimizer, rng, steps):
    for _ in range(steps):
        optimizer.step(make_grads(rng))


def everything(optimizer):
    """Options, counts, and the bits of state and params."""
    state_dict = optimizer.state_dict()
    bits = {name: {k: a.tobytes() for k, a in arrays.items()} for name, arrays in state_dict.pop("state").items()}
    params = optimizer.params
    leaves = [params["weight"], params[0], params["0"][0], *params["0"][1], *params["a/b~c"].values()]
    return state_dict, bits, [leaf.tobytes() for leaf in leaves]


def small():
    optimizer = instep.RMSprop({"w": np.ones(2, np.float32)}, lr=0.125, momentum=0.5)
    optimizer.step({"w": np.array([0.5, -3], np.float32)})
    return optimizer


# ---- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["load", "instep.load", "state_dict"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_resuming_is_exact(tmp_path, options, way):
    rng = np.random.default_rng(1)
    optimizer = instep.RMSprop(make_params(), **options)
    run(optimizer, rng, 7)
    assert len(set(optimizer.state_dict()["step_counts"].values())) == 2
    params = copy.deepcopy(optimizer.params)
    if way == "instep.load":
        optimizer.save(tmp_path / "checkpoint")
        resumed = instep.load(tmp_path / "checkpoint", params)
    else:
        resumed = instep.RMSprop(params, lr=9.0, rho=0.5, momentum=0.1)
        if way == "load":
            optimizer.save(tmp_path / "checkpoint")
            resumed.load(tmp_path / "checkpoint")
        else:
            state_dict = optimizer.state_dict()
            resumed.load_state_dict(state_dict)
            for arrays in state_dict["state"].values():
                for array in arrays.values():
                    array[...] = -1  # neither optimizer may hold it
    assert everything(resumed) == everything(optimizer)
    later = np.random.default_rng(2)
    run(resumed, later, 5)
    later = np.random.default_rng(2)
    run(optimizer, later, 5)
    assert everything(resumed) == everything(optimizer)


RESUME = """
import sys
from hashlib import sha256
import numpy as np, instep
path, steps = sys.argv[1], int(sys.argv[2])
optimizer = instep.load(path, np.load(path + ".npy"))
rng = np.random.default_rng(steps)
for _ in range(steps):
    optimizer.step(rng.normal(size=optimizer.params.shape).astype(np.float32))
optimizer.save(path + ".after")
print(instep.show_config("dicts")["instruction sets"]["active"], instep.get_num_threads())
print(sha256(optimizer.params.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("other_isa", instep.show_config("dicts")["instruction sets"]["available"])
@pytest.mark.parametrize("options", [OPTIONS["bias_correction"], OPTIONS["centered"]], ids=["corrected", "centered"])
def test_resuming_in_another_process_is_exact(tmp_path, options, other_isa, threads):
    path = str(tmp_path / "checkpoint")
    rng = np.random.default_rng(3)
    optimizer = instep.RMSprop(rng.normal(size=300_001).astype(np.float32), **options)
    for _ in range(3):
        optimizer.step(rng.normal(size=300_001).astype(np.float32))
    optimizer.save(path)
    np.save(path + ".npy", optimizer.params)
    environment = os.environ | {"INSTEP_ISA": other_isa, "INSTEP_NUM_THREADS": str(threads)}
    ran, digest = subprocess.run(
        [sys.executable, "-c", RESUME, path, "4"], env=environment, check=True, capture_output=True, text=True
    ).stdout.splitlines()

    rng = np.random.default_rng(4)
    for _ in range(4):
        optimizer.step(rng.normal(size=300_001).astype(np.float32))
    assert ran == f"{other_isa} {threads}"
    assert digest == sha256(optimizer.params.tobytes()).hexdigest()
    optimizer.save(path)
    assert Path(path).read_bytes() == Path(path + ".after").read_bytes()


def test_every_bit_pattern_survives(tmp_path):
    """NaN and infinities too, which a run that has diverged leaves there; but no negative average of squares."""
    patterns = np.random.default_rng(5).integers(0, 2**32, 4096, np.uint32)
    patterns[:4] = 0x7F800001, 0xFFC12345, 0x80000000, 1  # a signalling NaN, a payload, -0, the smallest
    patterns[4:6] = 0x7F800000, 0xFF800000
    squares = np.where(patterns.view(np.float32) < 0, patterns & 0x7FFFFFFF, patterns)
    optimizer = instep.RMSprop(np.ones(4096, np.float32), momentum=0.5)
    optimizer.state["momentum_buffer"].view(np.uint32)[...] = patterns
    optimizer.state["square_avg"].view(np.uint32)[...] = squares
    optimizer.save(tmp_path / "checkpoint")
    resumed = instep.load(tmp_path / "checkpoint", np.ones(4096, np.float32))
    assert (resumed.state["momentum_buffer"].view(np.uint32) == patterns).all()
    assert (resumed.state["square_avg"].view(np.uint32) == squares).all()


@pytest.mark.parametrize("mode", MODES)
def test_the_floating_point_mode_changes_no_checkpoint(tmp_path, mode):
    """Not by a bit: Python reads and prints a number as the mode says, and a comparison with NaN may be a trap."""

    def make():
        options = dict(lr=1 / 3, rho=0.95, eps=1e-310, momentum=0.1, weight_decay=1e-7)
        return instep.RMSprop({"w": np.ones(3)}, **options)

    diverged = make()
    diverged.step({"w": np.array([np.nan, np.inf, 1e-160])})
    diverged.save(tmp_path / "checkpoint")
    bits = {name: arrays["w"].tobytes() for name, arrays in diverged.state.items()}
    others = [make() for _ in range(3)]
    with np.errstate(all="raise"), floating_point_mode(MODES[mode]) as left:
        diverged.save(tmp_path / "again")
        others[0].load(tmp_path / "checkpoint")
        others[1].load_state_dict(diverged.state_dict())
        others[2] = instep.load(tmp_path / "checkpoint", {"w": np.ones(3)})
    assert left.control == MODES[mode]
    assert (tmp_path / "again").read_bytes() == (tmp_path / "checkpoint").read_bytes()
    for other in others:
        assert other.options == diverged.options
        assert {name: arrays["w"].tobytes() for name, arrays in other.state.items()} == bits


NEGATIVE = [-np.inf, -1.0, -np.nextafter(np.float32(0), np.float32(1))]


@pytest.mark.parametrize("value", NEGATIVE)
@pytest.mark.parametrize(("options", "name"), [({}, "square_avg"), ({"centered": True}, "variance")], ids=str)
def test_no_average_of_squares_is_negative(tmp_path, options, name, value):
    """Whichever way it comes in, and a checkpoint that could not be loaded is not written."""
    optimizer = instep.RMSprop({"v": np.ones(2), "w": np.ones((2, 2), np.float32)}, **options)
    optimizer.save(tmp_path / "checkpoint")
    before = (tmp_path / "checkpoint").read_bytes()
    optimizer.state[name]["w"][1, 0] = np.nan
    optimizer.state[name]["w"][1, 1] = value
    other = instep.RMSprop({"v": np.ones(2), "w": np.ones((2, 2), np.float32)}, **options)
    unchanged = other.state_dict()
    message = re.escape(f"state['{name}']['w'] holds a negative number")
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(optimizer.state_dict())
    np.testing.assert_equal(other.state_dict(), unchanged)
    with pytest.raises(ValueError, match=message):
        optimizer.save(tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint").read_bytes() == before


# ---- the form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_safetensors_reads_it(tmp_path, options):
    import safetensors.numpy

    optimizer = instep.RMSprop(make_params(), **options)
    run(optimizer, np.random.default_rng(6), 3)
    optimizer.save(tmp_path / "checkpoint")
    expected = {
        f"{name}/{place}": array
        for name, arrays in optimizer.state_dict()["state"].items()
        for place, array in arrays.items()
    }
    found = safetensors.numpy.load_file(tmp_path / "checkpoint")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
    with safetensors.safe_open(tmp_path / "checkpoint", "np") as file:
        metadata = file.metadata()
    assert {type(value) for value in metadata.values()} == {str}
    assert json.loads(metadata["options"]) == optimizer.options
    assert metadata["step_count"] == "3"


def test_what_was_read_is_written_in_the_same_bytes(tmp_path):
    for name, options in OPTIONS.items():
        optimizer = instep.RMSprop(make_params(), **options)
        run(optimizer, np.random.default_rng(7), 3)
        optimizer.save(tmp_path / name)
        checkpoint_file.write(tmp_path / "again", checkpoint_file.read(tmp_path / name))
        assert (tmp_path / "again").read_bytes() == (tmp_path / name).read_bytes()


def test_every_array_is_aligned(tmp_path):
    instep.RMSprop([np.ones(3, np.float32), np.ones(3), np.ones(1, np.float32), np.ones(2)]).save(tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    del entries["__metadata__"]
    assert length % 8 == 0
    assert all(entry["data_offsets"][0] % (int(entry["dtype"][1:]) // 8) == 0 for entry in entries.values())


KEYS = st.one_of(st.integers(-12, 12), st.text("~/'01-٣a", max_size=3))


@given(st.lists(st.lists(KEYS, min_size=1, max_size=3).map(tuple), min_size=2, max_size=30, unique=True))
def test_no_two_places_are_spelled_alike(paths):
    assert len({spell_path(path) for path in paths}) == len(paths)


@given(st.lists(KEYS, max_size=3).map(tuple))
def test_a_place_is_read_as_the_path_that_it_was_spelled_for(path):
    assert read_path(spell_path(path)) == path
    assert list(map(type, read_path(spell_path(path)))) == list(map(type, path))


def test_places():
    assert list(instep.RMSprop(np.ones(1)).state_dict()["step_counts"]) == [""]
    assert list(instep.RMSprop(make_params()).state_dict()["step_counts"]) == [
        "weight",
        "0",
        "'0'/0",
        "'0'/1/0",
        "'0'/1/1",
        "a~1b~0c/''",
        "a~1b~0c/'''",
    ]


@pytest.mark.parametrize("key", [1.5, None, True, b"w", ("a",), "\ud800"], ids=repr)
def test_other_keys_cannot_be_saved(tmp_path, key):
    with pytest.raises((TypeError, ValueError), match="saved"):
        instep.RMSprop({key: np.ones(1)}).save(tmp_path / "checkpoint")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_an_optimizer_is_not_copied(how):
    with pytest.raises(TypeError, match="state_dict"):
        how(small())


def test_nothing_in_the_package_runs_what_it_reads():
    root = Path(instep.__file__).parent
    files = [*root.rglob("*.py"), *root.rglob("*.pyx")]
    assert len(files) > 10
    for file in files:
        found = re.search(r"\b(pickle|cPickle|dill|cloudpickle|shelve|marshal|eval|exec)\b", file.read_text())
        assert found is None, f"{file}: {found}"


# ---- what does not fit ----------------------------------------------------------------------------------------------


def replaced(place, value):
    """A change to a state_dict: the value at a place, or without it."""

    def change(state_dict):
        *way, last = place
        for key in way:
            state_dict = state_dict[key]
        if value is None:
            del state_dict[last]
        else:
            state_dict[last] = value

    return change


MISFITS = {
    "no rule": replaced(["rule"], None),
    "another key": replaced(["more"], 1),
    "rule of no name": replaced(["rule"], 5),
    "unknown rule": replaced(["rule"], "sgd"),
    "a rule that C takes for another": replaced(["rule"], "rmsprop\0"),
    "no options": replaced(["options"], None),
    "options in a list": replaced(["options"], [1]),
    "an option missing": replaced(["options", "rho"], None),
    "an unknown option": replaced(["options", "beta"], 0.5),
    "an option out of range": replaced(["options", "rho"], 1.0),
    "an option of another type": replaced(["options", "nesterov"], 1.0),
    "an option that vanishes in float32": replaced(["options", "eps"], 1e-60),
    "options that need more state": replaced(["options", "centered"], True),
    "options that need less state": replaced(["options", "momentum"], 0.0),
    "a state missing": replaced(["state", "square_avg"], None),
    "an unknown state": replaced(["state", "more"], {}),
    "an array missing": replaced(["state", "square_avg", "weight"], None),
    "an array too many": replaced(["state", "square_avg", "more"], np.ones(1)),
    "an array in one state of another shape": replaced(["state", "square_avg", "weight"], np.ones((3, 5), np.float32)),
    "an array in one state of another dtype": replaced(["state", "square_avg", "weight"], np.ones((5, 3))),
    "a list for an array": replaced(["state", "square_avg", "a~1b~0c/''"], [1.0, 2.0]),
    "a masked array": replaced(["state", "square_avg", "a~1b~0c/''"], np.ma.ones(2)),
    "an array of the other byte order": replaced(["state", "square_avg", "a~1b~0c/''"], np.ones(2, ">f8")),
    "places in a list for counts": lambda state_dict: state_dict.update(step_counts=[*state_dict["step_counts"]]),
    "text for counts": replaced(["step_counts"], "weight"),
    "text for state": replaced(["state"], "square_avg"),
    "a list for a state": replaced(["state", "square_avg"], [np.ones(1)]),
    "no step count": replaced(["step_count"], None),
    "a negative step count": replaced(["step_count"], -1),
    "a fractional step count": replaced(["step_count"], 1.0),
    "a boolean step count": replaced(["step_count"], True),
    "a step count too large": replaced(["step_count"], 2**63 - 1),
    "a count missing": replaced(["step_counts", "weight"], None),
    "a count too many": replaced(["step_counts", "more"], 1),
    "a negative count": replaced(["step_counts", "weight"], -1),
    "more steps of an array than in all": replaced(["step_counts", "weight"], 4),
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS)
def test_a_misfit_changes_nothing(change):
    optimizer = instep.RMSprop(make_params(), momentum=0.5)
    run(optimizer, np.random.default_rng(8), 2)
    other = instep.RMSprop(make_params(), momentum=0.9)
    run(other, np.random.default_rng(9), 3)
    before = everything(optimizer)
    state_dict = other.state_dict()
    change(state_dict)
    with pytest.raises((TypeError, ValueError)):
        optimizer.load_state_dict(state_dict)
    assert everything(optimizer) == before
    optimizer.load_state_dict(other.state_dict())  # what the change was made to fits
    assert everything(optimizer)[:2] == everything(other)[:2]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"w": np.ones(3, np.float32)}, r"shape \(2,\), the parameter \(3,\)"),
        ({"w": np.ones((2, 1), np.float32)}, "shape"),
        ({"w": np.ones(2)}, "dtype float32, the parameter float64"),
        ({"v": np.ones(2, np.float32)}, "the state is of other params: it lacks 'v'"),
        ({"w": np.ones(2, np.float32), "v": np.ones(2)}, "lacks 'v'"),
        ([np.ones(2, np.float32)], "lacks '0'"),
        (np.ones(2, np.float32), "lacks ''"),
    ],
    ids=repr,
)
def test_other_params_are_no_damage(tmp_path, params, message):
    small().save(tmp_path / "checkpoint")
    optimizer = instep.RMSprop(params, lr=7.0)
    before = optimizer.state_dict()
    for load in (optimizer.load, lambda path: instep.load(path, params)):
        with pytest.raises(ValueError, match=message) as caught:
            load(tmp_path / "checkpoint")
        assert not isinstance(caught.value, instep.CheckpointError)
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_more_params_than_were_saved_are_no_damage(tmp_path):
    instep.RMSprop({"w": np.ones(2), "v": np.ones(2)}).save(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="the state is of other params: it has 'v'"):
        instep.load(tmp_path / "checkpoint", {"w": np.ones(2)})


def test_an_option_that_vanishes_in_a_type_names_the_type():
    state_dict = small().state_dict()
    state_dict["options"]["eps"] = 1e-50
    with pytest.raises(ValueError, match=r"with arrays of float32, eps=1e-50 rounds to 0"):
        small().load_state_dict(state_dict)


def test_options_for_another_type_do_not_hide_that_it_is_another(tmp_path):
    instep.RMSprop({"w": np.ones(2)}, eps=1e-50).save(tmp_path / "checkpoint")
    params = {"w": np.ones(2, np.float32)}
    for load in (instep.RMSprop(params).load, lambda path: instep.load(path, params)):
        with pytest.raises(ValueError, match="dtype float64, the parameter float32"):
            load(tmp_path / "checkpoint")


def test_another_rule_is_no_damage(tmp_path, monkeypatch):
    optimizer = small()
    optimizer.save(tmp_path / "checkpoint")
    monkeypatch.setattr(instep.RMSprop, "rule", "another")
    with pytest.raises(ValueError, match="the state is of rmsprop, the optimizer of another"):
        optimizer.load(tmp_path / "checkpoint")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        small().load(tmp_path / "checkpoint")
