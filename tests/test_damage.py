"""A checkpoint is sound, or it is a CheckpointError: no damage passes, and nothing in a file crashes the reader."""

import json
import os
import subprocess
import sys
import tracemalloc
from hashlib import sha256

import numpy as np
import pytest

import instep
from checkpoints import rewritten, signed, taken_apart, to_json
from instep.__main__ import main
from instep.checkpoint import file as checkpoint_file
from instep.checkpoint.state_dict import read_path
from trials import CLASSES, situations


def small():
    optimizer = instep.RMSprop({"w": np.ones(2, np.float32)}, lr=0.125, momentum=0.5)
    optimizer.step({"w": np.array([0.5, -3], np.float32)})
    return optimizer


class Loader:
    """Loads altered copies of a checkpoint, and sees that a refusal changes nothing."""

    def __init__(self, path, optimizer):
        optimizer.save(path)
        self.path = path
        self.optimizer = optimizer
        self.sound = path.read_bytes()
        self.optimizer.load(path)

    def refuses(self, content, error=instep.CheckpointError):
        before = self.optimizer._states, self.optimizer.options, self.optimizer.step_count
        with open(self.path, "r+b") as file:  # a file cut to nothing first is flushed to the disk by ext4 when closed
            file.write(content)
            file.truncate()
        try:
            self.optimizer.load(self.path)
        except error:
            after = self.optimizer._states, self.optimizer.options, self.optimizer.step_count
            return before[0] is after[0] and before[1:] == after[1:]
        return False


@pytest.fixture
def loader(tmp_path):
    return Loader(tmp_path / "checkpoint", small())


@pytest.fixture(params=situations().values(), ids=situations())
def every_loader(tmp_path, request):
    """One of every rule, with the fewest and the most states."""
    rule, options = request.param
    optimizer = CLASSES[rule]({"w": np.ones(2, np.float32)}, **options)
    optimizer.step({"w": np.array([0.5, -3], np.float32)})
    return Loader(tmp_path / "checkpoint", optimizer)


def test_every_bit_counts(every_loader, soak):
    """In a soak; otherwise one of each byte."""
    loader = every_loader
    content = bytearray(loader.sound)
    for place in range(len(content)):
        for bit in range(8) if soak else [place % 8]:
            content[place] ^= 1 << bit
            assert loader.refuses(content), f"bit {bit} of byte {place}"
            content[place] ^= 1 << bit


def test_every_length_counts(every_loader):
    loader = every_loader
    for length in range(len(loader.sound)):
        assert loader.refuses(loader.sound[:length]), length
    for tail in (b"\0", b" ", b"\n", loader.sound):
        assert loader.refuses(loader.sound + tail)


def mutated(content, rng):
    """A few random changes: bits, bytes, runs cut out, doubled, moved or made up."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        start, length = int(rng.integers(len(content) + 1)), int(rng.geometric(0.2))
        run = content[start : start + length]
        target = int(rng.integers(len(content) + 1))
        match rng.integers(7):
            case 0 if run:
                run[int(rng.integers(len(run)))] ^= 1 << int(rng.integers(8))
                content[start : start + length] = run
            case 1:
                content[start : start + length] = rng.bytes(len(run))
            case 2:
                del content[start : start + length]
            case 3:
                content[target:target] = run
            case 4:
                content[target : target + length] = run
            case 5:
                content[start:start] = rng.bytes(length)
            case 6:
                content[start : start + length] = bytes(rng.choice(list(b'0123456789"{}[]:,.-\\ eE')) for _ in run)
    return bytes(content)


@pytest.fixture
def rounds(soak):
    return 1_000_000 if soak else 4_000


def test_random_damage_is_noticed(loader, rounds):
    rng = np.random.default_rng(10)
    for _ in range(rounds):
        content = mutated(loader.sound, rng)
        assert content == loader.sound or loader.refuses(content), content


def test_random_headers_with_the_right_checksum_crash_nothing(loader, rounds):
    """Some are good, such as another step count, and saved in the same bytes; the others are a ValueError."""
    rng = np.random.default_rng(11)
    header, data = taken_apart(loader.sound)
    head, rest = header[:100], header[100:]
    refused = 0
    for _ in range(rounds):
        content = signed(head + mutated(rest, rng), data)
        if loader.refuses(content, ValueError):
            refused += 1
        else:
            loader.optimizer.save(loader.path)
            assert loader.path.read_bytes() == content
    assert rounds / 2 < refused < rounds


OTHERS = [None, True, 0, 1.5, "", "w", "square_avg/w", [], [""], ["w"], {}, {"": 1}, {"w": []}]


def retyped(value, rng):
    """A JSON value in which one value, at a random place, is of another type; text that holds JSON is looked into."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        return to_json(retyped(json.loads(value), rng))
    if isinstance(value, (dict, list)) and value and rng.integers(4):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(rng.integers(len(keys)))]
        value = value.copy()
        value[key] = retyped(value[key], rng)
        return value
    if isinstance(value, dict) and rng.integers(2):
        return list(value)
    others = [other for other in OTHERS if type(other) is not type(value)]
    return others[int(rng.integers(len(others)))]


def test_values_of_other_types_with_the_right_checksum_crash_nothing(loader, rounds):
    rng = np.random.default_rng(12)
    header, data = taken_apart(loader.sound)
    entries = json.loads(header)
    digest = entries["__metadata__"].pop("sha256")
    for _ in range(rounds // 4):
        changed = retyped(entries, rng)
        if isinstance(changed, dict) and isinstance(changed.get("__metadata__"), dict):
            changed["__metadata__"] = {"sha256": digest} | changed["__metadata__"]
        text = to_json(changed).encode()
        content = signed(text + b" " * (-len(text) % 8), data)
        assert loader.refuses(content), content


def entries_changed(change):
    """A hostile file made by changing what the header says."""

    def make(header, data):
        entries = json.loads(header)
        changed = change(entries)
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        return signed(text + b" " * (-len(text) % 8), data if changed is None else changed)

    return make


def in_metadata(name, value):
    return entries_changed(lambda entries: entries["__metadata__"].update({name: value}))


def in_options(name, value):
    def change(entries):
        options = json.loads(entries["__metadata__"]["options"])
        options[name] = value
        entries["__metadata__"]["options"] = json.dumps(options, separators=(",", ":"))

    return entries_changed(change)


def in_checksums(change):
    def changed(entries):
        sums = change(json.loads(entries["__metadata__"]["checksums"]))
        entries["__metadata__"]["checksums"] = json.dumps(sums, separators=(",", ":"))

    return entries_changed(changed)


def in_array(name, value):
    return entries_changed(lambda entries: entries["square_avg/w"].update({name: value}))


def text_changed(old, new):
    def make(header, data):
        assert old in header
        text = header.rstrip().replace(old, new, 1)
        return signed(text + b" " * (-len(text) % 8), data)

    return make


def with_array(name, entry, data=b""):
    """One array more, with a checksum."""

    def change(entries):
        entries[name] = entry
        sums = json.loads(entries["__metadata__"]["checksums"])
        sums[name] = sha256(data).hexdigest()
        entries["__metadata__"]["checksums"] = json.dumps(sums, separators=(",", ":"))

    return entries_changed(change)


ARRAY = b'"square_avg/w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
NO_ARRAY = {"dtype": "F32", "shape": [0], "data_offsets": [16, 16]}
HOSTILE = {
    "an empty file": lambda header, data: b"",
    "seven bytes": lambda header, data: b"\0" * 7,
    "a length of 0": lambda header, data: bytes(8) + header + data,
    "a length of 2^64-1": lambda header, data: b"\xff" * 8 + header + data,
    "a length of 2^63": lambda header, data: (2**63).to_bytes(8, "little") + header + data,
    "a length past the end": lambda header, data: (len(header) + len(data) + 1).to_bytes(8, "little") + header + data,
    "a header without checksum": lambda header, data: (2).to_bytes(8, "little") + b"{}",
    "another safetensors file": lambda header, data: len(ARRAY + b"{}").to_bytes(8, "little") + b"{" + ARRAY + b"}",
    "deep lists": lambda header, data: signed(header[:92] + b"[" * 200_000, data),
    "deep objects": lambda header, data: signed(header[:92] + b',"a":{"a":' * 100_000, data),
    "an unclosed header": lambda header, data: signed(header.rstrip()[:-1], data),
    "something after the header": lambda header, data: signed(header.rstrip() + b"x", data),
    "no UTF-8": text_changed(b"square_avg/w", b"square_avg/\xff"),
    "a lone surrogate": text_changed(b"square_avg/w", b"square_avg/\\ud800"),
    "a zero byte": text_changed(b"square_avg/w", b"square_avg/\0"),
    "an array twice": text_changed(ARRAY, ARRAY + b"," + ARRAY),
    "an array twice, the first a lie": text_changed(ARRAY, ARRAY.replace(b"[2]", b"[9]") + b"," + ARRAY),
    "metadata twice": text_changed(b"}," + ARRAY, b'},"__metadata__":{},' + ARRAY),
    "metadata twice, then a number": text_changed(b"}," + ARRAY, b'},"__metadata__":5,' + ARRAY),
    "a key of the metadata twice": text_changed(b'"instep":"1"', b'"instep":"1","instep":"1"'),
    "a key that is no string": text_changed(b'"square_avg/w":', b"5:"),
    "white space": text_changed(b'"square_avg/w":', b'"square_avg/w": '),
    "an escaped letter": text_changed(b'"square_avg/w"', b'"square_av\\u0067/w"'),
    "no padding": lambda header, data: signed(header.rstrip(), data),
    "more padding": lambda header, data: signed(header + b" " * 8, data),
    "padding of tabs": lambda header, data: signed(header.replace(b" ", b"\t"), data),
    "a shape of NaN": text_changed(b"[2]", b"[NaN]"),
    "a shape of Infinity": text_changed(b"[2]", b"[Infinity]"),
    "a shape of 1e999": text_changed(b"[2]", b"[1e999]"),
    "a shape of 2.0": in_array("shape", [2.0]),
    "a shape of true": in_array("shape", [True, 2]),
    "a shape of -2": in_array("shape", [-2]),
    "a shape of -2 and -1": in_array("shape", [-2, -1]),
    "a shape of text": in_array("shape", "2"),
    "a shape of null": in_array("shape", None),
    "a shape in a shape": in_array("shape", [[2]]),
    "a shape of other size": in_array("shape", [3]),
    "a shape that overflows to 2": in_array("shape", [2**63 + 1, 2]),
    "a shape that overflows to 0": in_array("shape", [2**32, 2**32]),
    "a shape of 5000 digits": text_changed(b"[2]", b"[" + b"9" * 5000 + b"]"),
    "65 dimensions": in_array("shape", [2] + [1] * 64),
    "an empty array of 2^64": with_array("more", NO_ARRAY | {"shape": [0, 2**64]}),
    "an empty array of 2^62 by 2^62": with_array("more", NO_ARRAY | {"shape": [0, 2**62, 2**62]}),
    "offsets that overlap": in_array("data_offsets", [8, 16]),
    "offsets with a hole": in_array("data_offsets", [4, 12]),
    "offsets in reverse": in_array("data_offsets", [8, 0]),
    "offsets past the end": in_array("data_offsets", [0, 2**40]),
    "offsets below 0": in_array("data_offsets", [-8, 0]),
    "offsets of false": in_array("data_offsets", [False, 8]),
    "three offsets": in_array("data_offsets", [0, 8, 8]),
    "a dtype of F16": in_array("dtype", "F16"),
    "a dtype in a list": in_array("dtype", ["F32"]),
    "no dtype": entries_changed(lambda entries: entries["square_avg/w"].pop("dtype") and None),
    "a field too many": in_array("strides", [4]),
    "a number for an array": entries_changed(lambda entries: entries.update({"square_avg/w": 5})),
    "a list for an array": entries_changed(lambda entries: entries.update({"square_avg/w": [1]})),
    "an array too many": with_array("square_avg/v", NO_ARRAY),
    "an array of no state": with_array("more", NO_ARRAY),
    "an array of no name": with_array("", NO_ARRAY),
    "an array of a name that ends": with_array("square_avg/", NO_ARRAY),
    "an array too few": entries_changed(lambda entries: entries.pop("momentum_buffer/w") and bytes(8)),
    "an array without checksum": entries_changed(lambda entries: entries.update({"more": NO_ARRAY})),
    "metadata that is a number": lambda header, data: signed(header[:92] + b'},"__metadata__":5}', data),
    "metadata that is not text": in_metadata("step_count", 1),
    "metadata too many": in_metadata("more", "1"),
    "metadata too few": entries_changed(lambda entries: entries["__metadata__"].pop("rule") and None),
    "metadata in another order": entries_changed(
        lambda entries: entries["__metadata__"].update(rule=entries["__metadata__"].pop("rule"))
    ),
    "version 2": in_metadata("instep", "2"),
    "version 01": in_metadata("instep", "01"),
    "version 1 as a number": in_metadata("instep", 1),
    "version 1 in other digits": in_metadata("instep", "\u0661"),
    "another rule": in_metadata("rule", "sgd"),
    "options that are no JSON": in_metadata("options", "{"),
    "options that are a list": in_metadata("options", "[]"),
    "options deep down": in_metadata("options", "[" * 100_000),
    "options with a doubled key": text_changed(b'{\\"lr\\":', b'{\\"lr\\":9.0,\\"lr\\":'),
    "options with a space": text_changed(b'{\\"lr\\":', b'{\\"lr\\": '),
    "an option of NaN": in_options("lr", float("nan")),
    "an option of Infinity": in_options("lr", float("inf")),
    "an option of text": in_options("lr", "0.1"),
    "an option out of range": in_options("rho", 1.0),
    "an option that vanishes in float32": in_options("eps", 1e-60),
    "an unknown option": in_options("beta", 0.9),
    "options that need other state": in_options("centered", True),
    "checksums that are no object": in_metadata("checksums", "5"),
    "checksums that are a list": in_metadata("checksums", '["square_avg/w","momentum_buffer/w"]'),
    "no checksums": in_metadata("checksums", "{}"),
    "a checksum too many": in_checksums(lambda sums: sums | {"more": "0" * 64}),
    "checksums in another order": in_checksums(lambda sums: dict(reversed(sums.items()))),
    "checksums of nothing": in_metadata("checksums", '{"square_avg/w":null,"momentum_buffer/w":null}'),
    "a step count of -1": in_metadata("step_count", "-1"),
    "a step count of 1.0": in_metadata("step_count", "1.0"),
    "a step count of true": in_metadata("step_count", "true"),
    "a step count of 2^63": in_metadata("step_count", str(2**63)),
    "a step count of 01": in_metadata("step_count", "01"),
    "counts in a list": in_metadata("step_counts", "[1]"),
    "places in a list": in_metadata("step_counts", '["w"]'),
    "a place of text": in_metadata("step_counts", '"w"'),
    "options of text": in_metadata("options", '"lr"'),
    "checksums of text": in_metadata("checksums", '"square_avg/w"'),
    "counts of other arrays": in_metadata("step_counts", '{"v":1}'),
    "a count of null": in_metadata("step_counts", '{"w":null}'),
    "data too short": lambda header, data: signed(header, data[:-1]),
    "data too long": lambda header, data: signed(header, data + b"\0"),
    "data of others": lambda header, data: signed(header, bytes(len(data))),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused(loader, make):
    assert loader.refuses(make(*taken_apart(loader.sound)))


def test_hostile_files_fail_by_what_is_hostile_in_them(loader):
    """Made in the same way without the hostile part, a file loads."""
    header, data = taken_apart(loader.sound)
    assert entries_changed(lambda entries: None)(header, data) == loader.sound
    assert in_options("lr", small().lr)(header, data) == loader.sound
    assert text_changed(ARRAY, ARRAY)(header, data) == loader.sound
    assert not loader.refuses(in_metadata("step_count", "5")(header, data))
    assert loader.optimizer.step_count == 5
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize(
    "spelled",
    ["1.25e-1", "12.5e-2", "0.125E0", "0.1250", "00.125", ".125", "+0.125", "0.125 ", "\\t0.125", "1", "true", "null"]
    + ["1e999", "-0.125", "[0.125]", "NaN", "Infinity", "-Infinity", "0." + "9" * 5000, "9" * 5000, "0x1p-3"],
    ids=lambda spelled: spelled[:20],
)
def test_an_option_is_spelled_in_one_way(loader, spelled):
    assert loader.refuses(text_changed(b":0.125,", f":{spelled},".encode())(*taken_apart(loader.sound)))


@pytest.mark.parametrize("place", ["step_count", "step_counts"])
@pytest.mark.parametrize(
    "spelled",
    [
        "1.0",
        "1e0",
        "10e-1",
        "1E0",
        "01",
        "+1",
        "-1",
        "-0",
        " 1",
        "1 ",
        "1\n",
        "0x1",
        "1_0",
        "\u0661",
        "1,1",
        "'1'",
        '"1"',
    ]
    + ["true", "null", "NaN", "Infinity", "-Infinity", "[1]", "{}", "", str(2**63 - 1), str(2**64 + 1), "9" * 5000],
    ids=lambda spelled: spelled[:20],
)
def test_a_count_is_spelled_in_one_way(loader, place, spelled):
    value = spelled if place == "step_count" else f'{{"w":{spelled}}}'
    assert loader.refuses(in_metadata(place, value)(*taken_apart(loader.sound)))


def mixed():
    """Float32 comes first in the params, float64 in the file."""
    params = {"a": np.ones(2, np.float32), "b": [np.ones(1), np.ones(0, np.float32)], "c": np.ones((1, 2))}
    optimizer = instep.RMSprop(params, lr=0.125, momentum=0.5)
    optimizer.step({"a": np.ones(2, np.float32), "b": [np.ones(1), np.ones(0, np.float32)], "c": np.ones((1, 2))})
    return optimizer


def reordered(pick, order):
    def change(metadata, arrays):
        items = pick(metadata, arrays)
        ordered = {key: items[key] for key in sorted(items, key=order)}
        assert list(ordered) != list(items)
        items.clear()
        items.update(ordered)

    return change


def all_arrays(metadata, arrays):
    return arrays


def doubled(name):
    """One float32 array of two is in float64, but stays in its place in the file."""

    def change(metadata, arrays):
        for state in ("square_avg", "momentum_buffer"):
            arrays[f"{state}/{name}"][0] = "F64"
            arrays[f"{state}/{name}"][2] *= 2

    return change


def valued(value):
    def change(metadata, arrays):
        arrays["square_avg/a"][2] = np.array([1, value], "<f4").tobytes()

    return change


def placed(*places):
    """Empty arrays in these places."""

    def change(metadata, arrays):
        metadata["step_counts"] = dict.fromkeys(places, 1)
        arrays.clear()
        for state in ("square_avg", "momentum_buffer"):
            arrays |= {f"{state}/{place}" if place else state: ["F32", [0], b""] for place in places}

    return change


IN_ORDER = ["square_avg/b/0", "square_avg/c", "momentum_buffer/b/0", "momentum_buffer/c"]
IN_ORDER += ["square_avg/a", "square_avg/b/1", "momentum_buffer/a", "momentum_buffer/b/1"]
NO_PLACES = ["~", "~2", "a~", "/", "a/", "/a", "a//b", "01", "-0", "00", "-01", "'", "'a'", "'a", "''a", "'-'", "'''a"]
NO_PLACES += ["9" * 5000, "'1'/'", "'\u0661'"]
NOT_WRITTEN = {
    "arrays in reverse": reordered(all_arrays, lambda name: -IN_ORDER.index(name)),
    "float32 before float64": reordered(all_arrays, lambda name: name[-1] in "0c"),
    "arrays in the order of the params": reordered(all_arrays, lambda name: (name[0] == "m", name[-1] == "c", name)),
    "a float32 array too early": reordered(all_arrays, lambda name: name != "square_avg/a"),
    "momentum before the average": reordered(all_arrays, lambda name: (IN_ORDER.index(name) > 3, name)),
    "place by place": reordered(all_arrays, lambda name: (IN_ORDER.index(name) > 3, name[-3:], name[0] == "m")),
    "a float64 array behind float32": doubled("a"),
    "an empty float64 array behind float32": doubled("b/1"),
    "counts in another order than the arrays": reordered(lambda metadata, _: metadata["step_counts"], "cb/1b/0a".find),
    "options in another order": reordered(lambda metadata, _: metadata["options"], str),
    "more steps of an array than in all": lambda metadata, _: metadata["step_counts"].update(a=2),
    "an integer for a number": lambda metadata, _: metadata["options"].update(lr=1),
    "a rule that C takes for another": lambda metadata, _: metadata.update(rule="rmsprop\0"),
    "a negative average of squares": valued(-1.0),
    "an infinite negative average of squares": valued(-np.inf),
    "no array": placed(),
    "an array and one under it": placed("a", "a/b"),
    "an array under another, which follows": placed("a/b", "a"),
    "an array by itself and another": placed("", "a"),
    "a branch left and come back to": placed("a/b", "c", "a/d"),
    "a branch left and come back to as an array": placed("a/b", "c", "a"),
    "nested too deep": placed("/".join("a" * 65)),
    "nested far too deep": placed("/".join("a" * 50_000)),
    "a place spelled in two ways": placed("a", "'a'"),
} | {f"a place spelled {place!r:.9}": placed(place) for place in NO_PLACES}
WRITTEN = {
    "the same": lambda metadata, arrays: None,
    "NaN": valued(np.nan),
    "infinity": valued(np.inf),
    "-0": valued(-0.0),
    "another count": lambda metadata, _: metadata["step_counts"].update(a=0),
    "another option": lambda metadata, _: metadata["options"].update(lr=1.0),
    "nested deep": placed("/".join("a" * 64)),
    "an array by itself": placed(""),
    "every spelling": placed("~0", "~1", "~01/''", "~01/0/-1", "~01/0/''1'", "10/'10'", "10/'-10'", "\u0661", "-", " "),
    "branches": placed("a/b", "a/d/e", "a/d/f", "c", "d"),
}


@pytest.mark.parametrize("change", NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_a_file_that_save_does_not_write_is_refused(tmp_path, change):
    path = tmp_path / "checkpoint"
    mixed().save(path)
    path.write_bytes(rewritten(path.read_bytes(), change))
    with pytest.raises(instep.CheckpointError):
        checkpoint_file.read(path)


@pytest.mark.parametrize("change", WRITTEN.values(), ids=WRITTEN)
def test_a_file_that_save_writes_is_taken(tmp_path, change):
    """Made in the same way as those that it does not write."""
    path = tmp_path / "checkpoint"
    mixed().save(path)
    content = rewritten(path.read_bytes(), change)
    path.write_bytes(content)
    instep.load(path, params_of(checkpoint_file.read(path))).save(path)
    assert path.read_bytes() == content


def params_of(state_dict):
    """Some params with their arrays where the state has them."""
    root = {}
    for place, array in state_dict["state"]["square_avg"].items():
        *branches, last = ("root", *read_path(place))
        branch = root
        for key in branches:
            branch = branch.setdefault(key, {})
        branch[last] = np.zeros_like(array)
    return root["root"]


def test_a_negative_average_of_squares_is_named(tmp_path):
    path = tmp_path / "checkpoint"
    mixed().save(path)
    path.write_bytes(rewritten(path.read_bytes(), valued(-1.0)))
    with pytest.raises(instep.CheckpointError, match=r"state\['square_avg'\]\['a'\] holds a negative number"):
        mixed().load(path)


@pytest.mark.parametrize("shape", [[True, 2], [-2, -1], [2**63 + 1, 0], [0] + [1] * 64, [2.0], "2"], ids=str)
def test_an_impossible_shape_is_seen_before_anything_is_done_with_it(loader, shape):
    """Or the product of its numbers takes minutes, if there are many large ones."""
    loader.path.write_bytes(in_array("shape", shape)(*taken_apart(loader.sound)))
    with pytest.raises(instep.CheckpointError, match="impossible shape"):
        loader.optimizer.load(loader.path)


def test_an_array_by_itself_has_one_name(tmp_path):
    loader = Loader(tmp_path / "checkpoint", instep.RMSprop(np.ones(2)))
    header, data = taken_apart(loader.sound)
    assert b'"square_avg"' in header
    text = header.rstrip().replace(b'"square_avg', b'"square_avg/')
    assert loader.refuses(signed(text + b" " * (-len(text) % 8), data))


def test_a_file_of_a_newer_instep_says_so(loader):
    loader.path.write_bytes(in_metadata("instep", "2")(*taken_apart(loader.sound)))
    with pytest.raises(instep.CheckpointError, match=r"in format '2'; this one reads 1"):
        loader.optimizer.load(loader.path)


@pytest.mark.parametrize(
    ("size", "length", "most"),
    [
        (8 * 2**30, None, 2**20),
        (8 * 2**30, 50_000_000, 110_000_000),
        (8 * 2**30, 2**32, 2**20),
        (2**10, 99_000_000, 2**20),
    ],
    ids=["sound", "long", "beyond the limit", "beyond the file"],
)
def test_no_gigabytes_are_read_before_the_header_is_known_to_be_good(loader, size, length, most):
    """Eight of them, which take no room on the disk; nor is room made for more than a file has."""
    content = loader.sound if length is None else length.to_bytes(8, "little") + loader.sound[8:]
    loader.path.write_bytes(content)
    os.truncate(loader.path, size)
    tracemalloc.start()
    try:
        with pytest.raises(instep.CheckpointError):
            loader.optimizer.load(loader.path)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_a_sparse_terabyte_is_refused_before_there_is_room_for_it(loader, capsys, monkeypatch):
    """Its header is sound and agrees with its length; where no params say how large it may be, memory does."""
    half = 2**39
    header, _ = taken_apart(loader.sound)
    text = header.rstrip().replace(b'"shape":[2]', b'"shape":[%d]' % (half // 4))
    text = text.replace(b"[0,8]", b"[0,%d]" % half).replace(b"[8,16]", b"[%d,%d]" % (half, 2 * half))
    content = signed(text + b" " * (-len(text) % 8), b"")
    loader.path.write_bytes(content)
    os.truncate(loader.path, len(content) + 2 * half)
    before = loader.optimizer._states
    for load in (loader.optimizer.load, lambda path: instep.load(path, {"w": np.ones(2, np.float32)})):
        with pytest.raises(instep.CheckpointError, match="1099511627776 bytes of arrays, one over these params has 40"):
            load(loader.path)
    assert loader.optimizer._states is before

    def no_memory(shape, dtype):
        assert (shape, dtype) == (half, np.uint8)
        raise MemoryError

    monkeypatch.setattr(np, "empty", no_memory)
    with pytest.raises(instep.CheckpointError, match="more than there is memory for"):
        checkpoint_file.read(loader.path)
    assert main(["checkpoint", "show", str(loader.path)]) == 1
    assert "more than there is memory for" in capsys.readouterr().err


def test_show_prints_what_is_inside(loader, capsys):
    assert main(["checkpoint", "show", str(loader.path)]) == 0
    printed = capsys.readouterr().out
    for text in ("sound", "rmsprop after 1 step\n", "lr = 0.125", "momentum_buffer/w  float32 (2,), 1 step\n"):
        assert text in printed
    assert "group" not in printed
    assert "storage" not in printed


def test_show_prints_groups_forms_and_skipped_steps(tmp_path, capsys):
    grouped = {"*/b": {"lr": 0.5, "eps": 0.25}}
    params = {"layer": {"w": np.ones(2, np.float32), "b": np.ones(2, np.float32)}}
    optimizer = instep.RMSprop(params, groups=grouped, state_dtype="8bit", master="float32", skip_nonfinite=True)
    optimizer.step({"layer": {name: np.full(2, np.inf, np.float32) for name in "wb"}})
    optimizer.save(tmp_path / "run")
    assert main(["checkpoint", "show", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    for text in (
        "rmsprop after 0 steps, 1 skipped\n",
        "\ngroup */b:\n  lr = 0.5\n  eps = 0.25\n",
        "\nstorage:\n  state_dtype = '8bit'\n  master = 'float32'\n",
    ):
        assert text in printed


def test_a_sound_file_for_which_there_is_no_memory_is_not_called_a_bad_one(loader, monkeypatch):
    def no_memory(shape, dtype):
        raise MemoryError

    monkeypatch.setattr(np, "empty", no_memory)
    for load in (loader.optimizer.load, lambda path: instep.load(path, {"w": np.ones(2, np.float32)})):
        with pytest.raises(MemoryError):
            load(loader.path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file names that are not text")
def test_show_prints_any_name_on_any_terminal(loader):
    path = os.fsencode(loader.path) + b"\xff\xc3\xa9\x1b[2J"
    os.rename(loader.path, path)
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    command = [sys.executable, "-m", "instep", "checkpoint", "show", path]
    shown = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert shown.stdout.startswith(os.fsencode(loader.path) + rb"\udcff\xe9\x1b[2J: sound")
    assert shown.stderr == b""


def test_show_is_silent_when_nobody_reads_on(tmp_path):
    instep.RMSprop([np.ones(1) for _ in range(5000)]).save(tmp_path / "checkpoint")
    command = [sys.executable, "-m", "instep", "checkpoint", "show", str(tmp_path / "checkpoint")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shown:
        assert b"sound" in shown.stdout.readline()
        shown.stdout.close()
        assert shown.stderr.read() == b""
    assert shown.returncode == 0


def test_show_says_what_is_damaged(loader, capsys):
    loader.path.write_bytes(loader.sound[:-1] + b"\x99")
    assert main(["checkpoint", "show", str(loader.path)]) == 1
    printed = capsys.readouterr()
    assert "the array 'momentum_buffer/w' is damaged" in printed.err
    assert printed.out == ""
    assert main(["checkpoint", "show", str(loader.path) + ".missing"]) == 1
