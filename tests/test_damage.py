"""A checkpoint is sound, or it is a CheckpointError: no damage passes, and nothing in a file crashes the reader."""

import json
import os
import tracemalloc
from hashlib import sha256

import numpy as np
import pytest

import instep
from instep.__main__ import main


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
        before = self.optimizer._states
        with open(self.path, "r+b") as file:  # a file cut to nothing first is flushed to the disk by ext4 when closed
            file.write(content)
            file.truncate()
        try:
            self.optimizer.load(self.path)
        except error:
            return self.optimizer._states is before
        return False


@pytest.fixture
def loader(tmp_path):
    return Loader(tmp_path / "checkpoint", small())


def test_every_bit_counts(loader):
    content = bytearray(loader.sound)
    for place in range(len(content)):
        for bit in range(8):
            content[place] ^= 1 << bit
            assert loader.refuses(content), f"bit {bit} of byte {place}"
            content[place] ^= 1 << bit


def test_every_length_counts(loader):
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


def signed(header, data):
    """A file whose header, whatever it is, has the right length and checksum."""
    start = len(b'{"__metadata__":{"sha256":"')
    header = header[:start] + sha256(header[start + 64 :]).hexdigest().encode() + header[start + 64 :]
    return len(header).to_bytes(8, "little") + header + data


def taken_apart(content):
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def test_random_headers_with_the_right_checksum_crash_nothing(loader, rounds):
    """Some are good, such as another step count; the others are a ValueError of one kind or the other."""
    rng = np.random.default_rng(11)
    header, data = taken_apart(loader.sound)
    head, rest = header[:100], header[100:]
    outcomes = [loader.refuses(signed(head + mutated(rest, rng), data), ValueError) for _ in range(rounds)]
    assert sum(outcomes) > rounds / 2


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


def test_show_prints_what_is_inside(loader, capsys):
    assert main(["checkpoint", "show", str(loader.path)]) == 0
    printed = capsys.readouterr().out
    for text in ("sound", "rmsprop after 1 steps", "lr = 0.125", "momentum_buffer/w  float32 (2,), 1 steps"):
        assert text in printed


def test_show_says_what_is_damaged(loader, capsys):
    loader.path.write_bytes(loader.sound[:-1] + b"\x99")
    assert main(["checkpoint", "show", str(loader.path)]) == 1
    printed = capsys.readouterr()
    assert "the array 'momentum_buffer/w' is damaged" in printed.err
    assert printed.out == ""
    assert main(["checkpoint", "show", str(loader.path) + ".missing"]) == 1
