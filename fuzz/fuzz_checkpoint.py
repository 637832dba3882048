"""Any bytes as a checkpoint: they are refused with a CheckpointError, or they are what `save` writes.

An input is a file behind one byte.  When its lowest bit is set, the checksum of the header is put right before the file
is read, and when the next one is set, those of the arrays are before that: so mutations get past them.  Run it as
``python fuzz/fuzz_checkpoint.py CORPUS [libFuzzer's options]``; files to start from are put into CORPUS.
"""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports():
    import numpy as np

    import instep
    from instep._core import Options, rules
    from instep.checkpoint import file as checkpoint
    from instep.checkpoint.state_dict import StateDict, read_path
    from instep.optimizers import Optimizer

WORD = re.compile(rb"[^\s\"\\/:,{}\[\]]+")

scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
given, again = scratch / "given", scratch / "again"


def taken_apart(file: bytes) -> tuple[bytes, bytes, bytes]:
    """Length, header and data."""
    end = 8 + int.from_bytes(file[:8], "little")
    return file[:8], file[8:end], file[end:]


def put_arrays_checksums_right(file: bytes) -> bytes:
    """The file with the checksums that its arrays ought to have, as far as it can be told what they are."""
    length, header, data = taken_apart(file)
    try:
        entries = json.loads(header)
        for name, checksum in json.loads(entries["__metadata__"]["checksums"]).items():
            content = data[slice(*entries[name]["data_offsets"])]
            header = header.replace(checksum.encode(), sha256(content).hexdigest().encode())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return file
    return length + header + data


def put_header_checksum_right(file: bytes) -> bytes:
    """The file with the checksum that its header ought to have."""
    _, header, _ = taken_apart(file)
    start, end = (8 + edge for edge in (checkpoint._DIGEST.start, checkpoint._DIGEST.stop))
    return file[:start] + checkpoint._digest(header) + file[end:]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Bytes changed as libFuzzer does it; or one word of the header, such as a key, wherever it stands; or one value.

    The first byte is drawn anew, for libFuzzer keeps one input of those that differ in nothing else.
    """
    rng = random.Random(seed)
    kind = rng.choice([b"\0", b"\1", b"\3"])
    _, header, content = taken_apart(data[1:])
    words = sorted(set(WORD.findall(header)))
    if not words or rng.random() < 0.3:
        return kind + bytes(atheris.Mutate(data[1:], max_size - 1))
    if rng.random() < 0.2:
        with suppress(ValueError, RecursionError):
            other = to_json(retyped(json.loads(header), rng)).encode(errors="surrogatepass")
            return (kind + with_header(other, content))[:max_size]
    word = rng.choice(words)
    other = rng.choice(words) if rng.random() < 0.5 else bytes(atheris.Mutate(word, len(word) + 4))
    changes = {word: other} | ({other: word} if rng.random() < 0.5 else {})
    text = WORD.sub(lambda found: changes.get(found[0], found[0]), header.rstrip(b" "))
    return (kind + with_header(text, content))[:max_size]


def with_header(text: bytes, content: bytes) -> bytes:
    """A file of this header, filled up, and data."""
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content


def to_json(value: Any) -> str:
    """As checkpoints have it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def retyped(value: Any, rng: random.Random) -> Any:
    """A JSON value in which one value, anywhere, is of another type; text that holds JSON is looked into."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        return to_json(retyped(json.loads(value), rng))
    if isinstance(value, (dict, list)) and value and rng.random() < 0.75:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value[key] = retyped(value[key], rng)
        return value
    if isinstance(value, dict) and rng.random() < 0.5:
        return list(value)
    return rng.choice([None, True, 0, 1.5, "", [], [""], {}, {"": 1}])


def try_file(data: bytes) -> None:
    """Read the input; what is read without complaint must be of some optimizer, and saved by it in the same bytes."""
    kind, file = data[:1] or b"\0", data[1:]
    if kind[0] & 2:
        file = put_arrays_checksums_right(file)
    if kind[0] & 1:
        file = put_header_checksum_right(file)
    given.write_bytes(file)
    try:
        state_dict = checkpoint.read(given)
    except instep.CheckpointError:
        return
    instep.load(given, params_of(state_dict)).save(again)
    if again.read_bytes() != file:
        raise AssertionError("a file was taken that save does not write")


def params_of(state_dict: StateDict) -> Any:
    """Some params with their arrays where the state has them."""
    root: dict[Any, Any] = {}
    arrays: dict[str, Any] = {}
    for state in state_dict["state"].values():
        for place, array in state.items():
            if array.dtype.kind == "f":
                arrays[place] = array
            else:  # counts by row, which tell no more than how many there are
                arrays.setdefault(place, np.zeros((len(array), 1), np.float32))
    for place in state_dict["step_counts"]:
        *branches, last = ("root", *read_path(place))
        branch = root
        for key in branches:
            branch = branch.setdefault(key, {})
        branch[last] = np.zeros_like(arrays.get(place, 0.0))
    return root["root"]


def put_seeds(corpus: Path) -> None:
    """Sound checkpoints of every rule, by default and with any one option changed, of several dtypes in a nesting."""
    corpus.mkdir(parents=True, exist_ok=True)
    for rule, defaults in rules().items():
        changes: list[dict[str, Any]] = [{}, *({name: other_than(value)} for name, value in defaults.items())]
        for k, change in enumerate(changes):
            with suppress(ValueError):  # an option that needs another
                Options(rule).replace(change, (np.dtype("f4"),))
                put_seed(corpus / f"sound-{rule}-{k}", Optimizer.of_rule(rule), change)


def other_than(value: bool | int | float) -> bool | int | float:
    """Of the same type, so that an option may have it."""
    if isinstance(value, bool):
        return not value
    return 3 if isinstance(value, int) else 0.75


def put_seed(path: Path, optimizer_class: type[Optimizer], options: dict[str, Any]) -> None:
    """One of them, after a step."""
    params = {"w": np.ones((2, 3), np.float32), "b": [np.zeros(0, np.float32), np.ones((), np.float64)]}
    optimizer = optimizer_class(params, **options)
    optimizer.step(params_like(params))
    optimizer.save(given)
    path.write_bytes(b"\0" + given.read_bytes())


def params_like(nest: object) -> object:
    """Gradients of ones."""
    if isinstance(nest, dict):
        return {key: params_like(value) for key, value in nest.items()}
    if isinstance(nest, list):
        return [params_like(value) for value in nest]
    return np.ones_like(nest)


if __name__ == "__main__":
    put_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, try_file, custom_mutator=mutate)
    atheris.Fuzz()
