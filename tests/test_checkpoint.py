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

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import instep
from checkpoints import rewritten
from floating_point import MODES, floating_point_mode
from instep._core import Options
from instep.checkpoint import file as checkpoint_file
from instep.checkpoint.state_dict import read_path, spell_path
from peers import peer
from trials import CLASSES, defaults, narrowest, situations, states_of, structures, widest

# Every rule, with whatever its structural options may be.
SETTINGS = {f"{rule} {number}": (rule, options) for rule in CLASSES for number, options in enumerate(structures(rule))}
every_setting = pytest.mark.parametrize(("rule", "options"), SETTINGS.values(), ids=SETTINGS)


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
@every_setting
def test_resuming_is_exact(tmp_path, rule, options, way):
    rng = np.random.default_rng(1)
    optimizer = CLASSES[rule](make_params(), **options)
    run(optimizer, rng, 7)
    assert len(set(optimizer.state_dict()["step_counts"].values())) == 2
    params = copy.deepcopy(optimizer.params)
    if way == "instep.load":
        optimizer.save(tmp_path / "checkpoint")
        resumed = instep.load(tmp_path / "checkpoint", params)
        assert type(resumed) is CLASSES[rule]
    else:
        resumed = CLASSES[rule](params, **(narrowest(rule) | dict(lr=9.0, weight_decay=0.0)))
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
folder, rules = sys.argv[1], sys.argv[2:]
print(instep.show_config("dicts")["instruction sets"]["active"], instep.get_num_threads())
for rule in rules:
    path = f"{folder}/{rule}"
    optimizer = instep.load(path, np.load(path + ".npy"))
    rng = np.random.default_rng(4)
    for _ in range(4):
        optimizer.step(rng.normal(size=optimizer.params.shape).astype(np.float32))
    optimizer.save(path + ".after")
    print(sha256(optimizer.params.tobytes()).hexdigest())
"""
SIZE = 300_001


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run of every rule at its third step, saved, and the digests of the params four steps later."""
    folder = tmp_path_factory.mktemp("interrupted")
    digests = []
    for rule in CLASSES:
        path = str(folder / rule)
        rng = np.random.default_rng(3)
        optimizer = CLASSES[rule](rng.normal(size=SIZE).astype(np.float32), **widest(rule))
        for _ in range(3):
            optimizer.step(rng.normal(size=SIZE).astype(np.float32))
        optimizer.save(path)
        np.save(path + ".npy", optimizer.params)
        rng = np.random.default_rng(4)
        for _ in range(4):
            optimizer.step(rng.normal(size=SIZE).astype(np.float32))
        optimizer.save(path + ".expected")
        digests.append(sha256(optimizer.params.tobytes()).hexdigest())
    return folder, digests


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("other_isa", instep.show_config("dicts")["instruction sets"]["available"])
def test_resuming_in_another_process_is_exact(interrupted, other_isa, threads):
    folder, digests = interrupted
    environment = os.environ | {"INSTEP_ISA": other_isa, "INSTEP_NUM_THREADS": str(threads)}
    ran, *found = subprocess.run(
        [sys.executable, "-c", RESUME, folder, *CLASSES], env=environment, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert ran == f"{other_isa} {threads}"
    assert found == digests
    for rule in CLASSES:
        assert (folder / f"{rule}.after").read_bytes() == (folder / f"{rule}.expected").read_bytes()


@every_setting
def test_every_bit_pattern_survives(tmp_path, rule, options):
    """NaN and infinities too, which a run that has diverged leaves there; but no negative average of squares."""
    patterns = np.random.default_rng(5).integers(0, 2**32, 4096, np.uint32)
    patterns[:4] = 0x7F800001, 0xFFC12345, 0x80000000, 1  # a signalling NaN, a payload, -0, the smallest
    patterns[4:6] = 0x7F800000, 0xFF800000
    optimizer = CLASSES[rule](np.ones(4096, np.float32), **options)
    never_negative = Options(rule).replace(options, ()).never_negative
    written = {}
    for name, array in optimizer.state.items():
        bits = np.where(patterns.view(np.float32) < 0, patterns & 0x7FFFFFFF, patterns)
        written[name] = bits if name in never_negative else patterns
        array.view(np.uint32)[...] = written[name]
    optimizer.save(tmp_path / "checkpoint")
    resumed = instep.load(tmp_path / "checkpoint", np.ones(4096, np.float32))
    for name, array in resumed.state.items():
        assert (array.view(np.uint32) == written[name]).all(), name


@pytest.mark.parametrize("mode", MODES)
def test_the_floating_point_mode_changes_no_checkpoint(tmp_path, rule, mode):
    """Not by a bit: Python reads and prints a number as the mode says, and a comparison with NaN may be a trap."""
    options = widest(rule) | dict(lr=1 / 3, weight_decay=1e-310)

    def make():
        return CLASSES[rule]({"w": np.ones(3)}, **options)

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
EVERY_STATE = {
    f"{rule} {name}": (rule, options, name)
    for rule in CLASSES
    for options in structures(rule)
    for name in states_of(rule, options)
}


@pytest.mark.parametrize("value", NEGATIVE)
@pytest.mark.parametrize(("rule", "options", "name"), EVERY_STATE.values(), ids=EVERY_STATE)
def test_no_state_is_negative_that_no_step_leaves_so(tmp_path, rule, options, name, value):
    """Whichever way it comes in, and a checkpoint that could not be loaded is not written; others may be negative."""

    def make():
        return CLASSES[rule]({"v": np.ones(2), "w": np.ones((2, 2), np.float32)}, **options)

    def change(metadata, arrays):
        arrays[f"{name}/w"][2] = np.array([1, 1, np.nan, value], "<f4").tobytes()

    optimizer, other, path = make(), make(), tmp_path / "checkpoint"
    optimizer.save(path)
    before = path.read_bytes()
    optimizer.state[name]["w"][1] = np.nan, value
    if name not in Options(rule).replace(options, ()).never_negative:
        other.load_state_dict(optimizer.state_dict())
        optimizer.save(path)
        other.load(path)
        assert other.state[name]["w"][1, 1] == value
        return
    unchanged = other.state_dict()
    message = re.escape(f"state['{name}']['w'] holds a negative number")
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.save(path)
    assert path.read_bytes() == before
    path.write_bytes(rewritten(before, change))
    for load in (other.load, lambda path: instep.load(path, make().params)):
        with pytest.raises(instep.CheckpointError, match=message):
            load(path)
    np.testing.assert_equal(other.state_dict(), unchanged)


@pytest.mark.parametrize(("name", "exponent"), [("square_avg", 31), ("grad_avg", 15)])
def test_exponents_of_bytes_that_no_step_leaves(name, exponent):
    """They would be read as negative numbers, or as others than are written."""
    optimizer = instep.Adam({"w": np.ones(300, np.float32)}, state_dtype="8bit")
    optimizer.step({"w": np.ones(300, np.float32)})
    for place in (300, 301):
        damaged = optimizer.state_dict()
        damaged["state"][name]["w"][place] = exponent
        before = str(optimizer.state_dict())
        with pytest.raises(ValueError, match=rf"state\['{name}'\]\['w'\] holds an exponent that no step leaves"):
            optimizer.load_state_dict(damaged)
        assert str(optimizer.state_dict()) == before
        damaged["state"][name]["w"][place] = exponent + 1
        optimizer.load_state_dict(damaged)


def test_parameters_of_bfloat16_beside_a_checkpoint(tmp_path):
    """As `save` and the page on checkpoints advise; NumPy gives back bytes of no dtype, and we say what to do."""
    optimizer = instep.SGD({"w": np.full(3, 1.5, ml_dtypes.bfloat16)})
    optimizer.save(tmp_path / "checkpoint")
    np.savez(tmp_path / "params.npz", **optimizer.params)
    with np.load(tmp_path / "params.npz") as saved:
        read = saved["w"]
    with pytest.raises(TypeError, match=r"bfloat16, not \|V2; .* pass params\['w'\].view\(ml_dtypes.bfloat16\)"):
        instep.load(tmp_path / "checkpoint", {"w": read})
    again = instep.load(tmp_path / "checkpoint", {"w": read.view(ml_dtypes.bfloat16)})
    assert (again.params["w"] == 1.5).all()


# ---- the form -------------------------------------------------------------------------------------------------------


@every_setting
def test_safetensors_reads_it(tmp_path, rule, options):
    peer("safetensors.numpy")  # which has no wheels for an interpreter without the GIL
    import safetensors.numpy

    optimizer = CLASSES[rule](make_params(), **options)
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
    assert metadata["rule"] == rule
    assert metadata["step_count"] == "3"


def test_what_was_read_is_written_in_the_same_bytes(tmp_path):
    for name, (rule, options) in SETTINGS.items():
        optimizer = CLASSES[rule](make_params(), **options)
        run(optimizer, np.random.default_rng(7), 3)
        optimizer.save(tmp_path / name)
        checkpoint_file.write(tmp_path / "again", checkpoint_file.read(tmp_path / name))
        assert (tmp_path / "again").read_bytes() == (tmp_path / name).read_bytes()


def test_every_array_is_aligned(tmp_path, rule):
    params = [np.ones(3, np.float32), np.ones(3), np.ones(1, np.float32), np.ones(2)]
    CLASSES[rule](params, **widest(rule)).save(tmp_path / "c")
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
def test_other_keys_cannot_be_saved(tmp_path, rule, key):
    with pytest.raises((TypeError, ValueError), match="saved"):
        CLASSES[rule]({key: np.ones(1)}).save(tmp_path / "checkpoint")
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


OF_ANY_RULE = {
    "no rule": replaced(["rule"], None),
    "another key": replaced(["more"], 1),
    "rule of no name": replaced(["rule"], 5),
    "unknown rule": replaced(["rule"], "adamw"),
    "a rule that C takes for another": lambda state_dict: state_dict.update(rule=state_dict["rule"] + "\0"),
    "no options": replaced(["options"], None),
    "options in a list": replaced(["options"], [1]),
    "an unknown option": replaced(["options", "alpha"], 0.5),
    "an unknown state": replaced(["state", "more"], {}),
    "text for state": replaced(["state"], "square_avg"),
    "places in a list for counts": lambda state_dict: state_dict.update(step_counts=[*state_dict["step_counts"]]),
    "text for counts": replaced(["step_counts"], "weight"),
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


def misfits(rule, options):
    """What may be wrong with a state_dict over `make_params`."""
    yield from OF_ANY_RULE.items()
    for other in CLASSES:
        if other != rule:
            yield f"the rule {other}", replaced(["rule"], other)
    for name, default in defaults(rule).items():
        yield f"{name} missing", replaced(["options", name], None)
        yield f"{name} of another type", replaced(["options", name], "0.5" if isinstance(default, float) else 1.0)
        yield f"{name} out of range", replaced(["options", name], -1.0)
    if "eps" in defaults(rule):
        yield "an eps that vanishes in float32", replaced(["options", "eps"], 1e-60)
    for other in structures(rule):
        if list(states_of(rule, other)) != list(states_of(rule, options)):
            yield f"options that need {list(states_of(rule, other))}", lambda d, o=other: d["options"].update(o)
    for name in states_of(rule, options):
        weight = ["state", name, "weight"]
        yield f"{name} missing", replaced(["state", name], None)
        yield f"{name} in a list", replaced(["state", name], [np.ones(1)])
        yield f"an array of {name} missing", replaced(weight, None)
        yield f"an array of {name} too many", replaced(["state", name, "more"], np.ones(1))
        yield f"an array of {name} of another shape", replaced(weight, np.ones((3, 5), np.float32))
        yield f"an array of {name} of another dtype", replaced(weight, np.ones((5, 3)))
        yield f"an array of {name} of the other byte order", replaced(weight, np.ones((5, 3), ">f4"))
        yield f"a masked array of {name}", replaced(weight, np.ma.ones((5, 3), np.float32))
        yield f"a list for an array of {name}", replaced(weight, np.ones((5, 3)).tolist())


@pytest.mark.parametrize(("rule", "options"), situations().values(), ids=situations())
def test_a_misfit_changes_nothing(rule, options):
    optimizer, other = (CLASSES[rule](make_params(), **options) for _ in range(2))
    run(optimizer, np.random.default_rng(8), 2)
    run(other, np.random.default_rng(9), 3)
    before = everything(optimizer)
    for name, change in misfits(rule, options):
        state_dict = other.state_dict()
        change(state_dict)
        try:
            optimizer.load_state_dict(state_dict)
        except (TypeError, ValueError):
            assert everything(optimizer) == before, name
        else:
            pytest.fail(f"taken: {name}")
    optimizer.load_state_dict(other.state_dict())  # what the changes were made to fits
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
    with pytest.raises(ValueError, match="eps=1e-50 counts as 0 in float32"):
        small().load_state_dict(state_dict)


def test_options_for_another_type_do_not_hide_that_it_is_another(tmp_path):
    instep.RMSprop({"w": np.ones(2)}, eps=1e-50).save(tmp_path / "checkpoint")
    params = {"w": np.ones(2, np.float32)}
    for load in (instep.RMSprop(params).load, lambda path: instep.load(path, params)):
        with pytest.raises(ValueError, match="dtype float64, the parameter float32"):
            load(tmp_path / "checkpoint")


def test_another_rule_is_no_damage(tmp_path, rule):
    params = {"w": np.ones(2)}
    CLASSES[rule](params, **widest(rule)).save(tmp_path / "checkpoint")
    for other in CLASSES:
        if other != rule:
            with pytest.raises(ValueError, match=f"the state is of {rule}, the optimizer of {other}") as raised:
                CLASSES[other](params).load(tmp_path / "checkpoint")
            assert not isinstance(raised.value, instep.CheckpointError)


def test_a_variant_is_loaded_as_what_it_is_a_variant_of(tmp_path):
    class Slow(instep.AdamW):
        __slots__ = ()
        lr: float = 1e-6

    for cls in (instep.AdamW, Slow):
        optimizer = cls({"w": np.ones(2)})
        optimizer.step({"w": np.ones(2)})
        optimizer.save(tmp_path / "checkpoint")
        loaded = instep.load(tmp_path / "checkpoint", {"w": np.ones(2)})
        assert type(loaded) is instep.Adam
        assert loaded.options == optimizer.options
        again = cls({"w": np.ones(2)}, lr=0.5)
        again.load(tmp_path / "checkpoint")
        assert again.options == optimizer.options


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        small().load(tmp_path / "checkpoint")
