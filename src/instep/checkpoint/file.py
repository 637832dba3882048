"""A state_dict in one file that says when it is damaged.

The layout is that of safetensors (https://github.com/huggingface/safetensors), so that its tools read the arrays:

=======  ============================================================================================================
8 bytes  the length of the header, little-endian
header   JSON, filled up with spaces to a multiple of 8 bytes:

         ``__metadata__``
             ``sha256`` of what follows it in the header; ``instep``, the version of this format; ``rule``; and as JSON
             the rest of the state_dict but its arrays, and ``checksums``, the SHA-256 of every array
         ``<state>/<place>``
             ``dtype``, ``shape`` and ``data_offsets`` of an array
data     the arrays, little-endian and in C order, larger items before smaller ones, without gaps
=======  ============================================================================================================

Every byte is covered.  What comes before the first checksum is the same in every file but for the length, which decides
what the checksum is taken of; the rest of the header, the checksums of the arrays included, is under that checksum, and
the length of the file follows from the header.  So nothing is parsed before it is known to be what was written.  And
nothing is taken that would not have been written so: the header is spelled anew from the state_dict that was understood
and must come out the same, which leaves no room for doubled keys, gaps, overlaps, another order or a second way to put
anything.

SHA-256, because with 32 bits one damaged file in 4e9 would pass, and processors have instructions for it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from hashlib import sha256
from io import BufferedReader
from typing import Any

import numpy as np

from .._core import MOST_STATES, Storage, import_bfloat16
from ..arithmetic import Array, default_arithmetic
from .atomic import replace_file
from .state_dict import CheckpointError, StateDict, check, check_places

VERSION = 1

# What a file raises that is not sound, and no subclass of it: a signal handler may raise one, which is to be passed on.
UNSOUND = (
    ValueError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    UnicodeEncodeError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
)
LONGEST_HEADER = 100_000_000  # the limit of safetensors
MOST_DIMENSIONS = 64  # the limit of NumPy

_HEAD = b'{"__metadata__":{"sha256":"'
_DIGEST = slice(len(_HEAD), len(_HEAD) + 64)
_DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "BF16": "bfloat16", "U16": "<u2", "U8": "|u1", "I8": "|i1"}
_SIZES = {"F64": 8, "F32": 4, "I64": 8, "BF16": 2, "U16": 2, "U8": 1, "I8": 1}
_FIELDS = ("step_count", "skipped_steps", "finite_steps", "options", "groups", "storage", "step_counts")

Tensors = dict[str, tuple[str, tuple[int, ...]]]


@default_arithmetic
def write(path: str | os.PathLike[str], state_dict: StateDict) -> None:
    """Write it to a file, whole or not at all.  ValueError if `read` would not take it back."""
    check(state_dict)
    flat = {
        name: np.ravel(np.asarray(array, array.dtype.newbyteorder("<")), order="C").view(np.uint8).data
        for name, array in _arrays(state_dict).items()
    }
    checksums = {name: sha256(data).hexdigest() for name, data in flat.items()}
    header = bytearray(_header(state_dict, checksums))
    if len(header) > LONGEST_HEADER:
        raise ValueError(f"the names of {len(flat)} arrays do not fit into the header of a checkpoint")
    header[_DIGEST] = _digest(header)
    replace_file(os.fsdecode(path), [len(header).to_bytes(8, "little") + header, *flat.values()])


@default_arithmetic
def read(path: str | os.PathLike[str], params: Iterable[Array] | None = None) -> StateDict:
    """The state_dict in a file.  CheckpointError unless it is sound, and no larger than one over params of this size.

    That is seen before room is made for it: a sparse file of any size takes none on the disk.  MemoryError where there
    is not even as much as that; without params, who knows what a file claims, it is a CheckpointError.
    """
    most = (
        math.inf if params is None else (MOST_STATES + 1) * sum(param.size * max(param.itemsize, 4) for param in params)
    )
    with open(os.fsdecode(path), "rb") as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size, most)
        except MemoryError as error:
            if params is not None:  # what it asks room for is no more than they need
                raise
            raise CheckpointError(f"{os.fsdecode(path)!r} holds more than there is memory for") from error
        except Exception as error:
            if type(error) not in UNSOUND:
                raise
            raise CheckpointError(f"{os.fsdecode(path)!r} is not a sound checkpoint: {error}") from error


def identity(path: str) -> str:
    """The checksum of a file's header, in which those of its arrays are: no two files have the same."""
    with open(path, "rb") as file:
        file.seek(8 + _DIGEST.start)
        return file.read(_DIGEST.stop - _DIGEST.start).decode("ascii", "replace")


def _read(file: BufferedReader, size: int, most: float) -> StateDict:
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, LONGEST_HEADER):
        raise ValueError("it is shorter than its first 8 bytes say, or something else altogether")
    header = file.read(length)
    if not header.startswith(_HEAD):
        raise ValueError("it does not start as one does")
    if header[_DIGEST] != _digest(header):
        raise ValueError("its header is damaged")
    metadata, tensors = _parse(header)
    if size != 8 + length + sum(map(_size, tensors.values())):
        raise ValueError(f"it is {size} bytes long, which is not what its header says")
    if size - 8 - length > most:
        raise ValueError(f"it has {size - 8 - length} bytes of arrays, one over these params has {most} at most")
    checksums = json.loads(metadata["checksums"])
    if not isinstance(checksums, dict) or list(checksums) != list(tensors):
        raise ValueError("its checksums are not those of its arrays")

    state: dict[str, dict[str, Array]] = {}
    for name, tensor in tensors.items():
        flat = np.empty(_size(tensor), np.uint8)
        if file.readinto(flat.data) != flat.size or sha256(flat.data).hexdigest() != checksums[name]:
            raise ValueError(f"the array {name!r} is damaged")
        dtype, shape = tensor
        array = flat.view(_dtype(dtype)).reshape(shape)
        kind, _, place = name.partition("/")
        state.setdefault(kind, {})[place] = array.astype(array.dtype.newbyteorder("="), copy=False)
    found: Any = {name: json.loads(metadata[name]) for name in _FIELDS}
    state_dict: StateDict = found | {"rule": metadata["rule"], "state": state}
    options = check(state_dict)
    check_places(state_dict["step_counts"])
    state_dict["options"] = options.values()
    state_dict["groups"] = {
        pattern: {name: options.replace(changes, ()).values()[name] for name in changes}
        for pattern, changes in state_dict["groups"].items()
    }
    state_dict["state"] = {
        kind: {place: state[kind][place] for place in state_dict["step_counts"]}
        for kind in Storage(**state_dict["storage"]).names(options)
    }
    if _header(state_dict, checksums)[_DIGEST.stop :] != header[_DIGEST.stop :]:
        raise ValueError("its header is not as instep writes it")
    return state_dict


def _parse(header: bytes) -> tuple[dict[str, str], Tensors]:
    """What a header says, as far as the arrays can be read by it."""
    entries = json.loads(header.decode())
    metadata = entries.pop("__metadata__")
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata is not that of a checkpoint")
    version = metadata["instep"]
    if version != str(VERSION):
        raise ValueError(f"it was written by another instep, in format {version!r:.20}; this one reads {VERSION}")
    if list(metadata) != ["sha256", "instep", "rule", *_FIELDS, "checksums"]:
        raise ValueError("its metadata is not that of a checkpoint")
    tensors = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry["dtype"], str):
            raise ValueError(f"the array {name!r} is not described as one")
        shape = tuple(entry["shape"]) if isinstance(entry["shape"], list) else (None,)
        if len(shape) > MOST_DIMENSIONS or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            raise ValueError(f"the array {name!r} has an impossible shape")
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"the array {name!r} is of the dtype {entry['dtype']!r}, not of {' or '.join(_DTYPES)}")
        tensors[name] = (entry["dtype"], shape)
    return metadata, tensors


def _header(state_dict: StateDict, checksums: dict[str, str]) -> bytes:
    """The only header for it, but with zeros for the checksum of the header."""
    metadata = {
        "sha256": "0" * 64,
        "instep": str(VERSION),
        "rule": state_dict["rule"],
        **{name: _to_json(state_dict[name]) for name in _FIELDS},  # type: ignore[literal-required]
        "checksums": _to_json(checksums),
    }
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in _arrays(state_dict).items():
        start, end = end, end + array.nbytes
        dtype = _name(array.dtype)
        entries[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (start, end)}
    header = _to_json(entries).encode()
    return header + b" " * (-len(header) % 8)


def _arrays(state_dict: StateDict) -> dict[str, Array]:
    """By name, in the order of the file: larger items first, so that every array is aligned to its own."""
    arrays = {
        tensor_name(kind, place): array
        for kind, by_place in state_dict["state"].items()
        for place, array in by_place.items()
    }
    return dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))


def _digest(header: bytes | bytearray) -> bytes:
    return sha256(header[_DIGEST.stop :]).hexdigest().encode()


def _size(tensor: tuple[str, tuple[int, ...]]) -> int:
    dtype, shape = tensor
    return math.prod(shape) * _SIZES[dtype]


def _dtype(name: str) -> np.dtype[Any]:
    """That of arrays in the file."""
    if name == "BF16":
        import_bfloat16()
    return np.dtype(_DTYPES[name])


def _name(dtype: np.dtype[Any]) -> str:
    """What the file calls it."""
    spelled = "bfloat16" if dtype.name == "bfloat16" else dtype.newbyteorder("<").str
    return next(name for name, found in _DTYPES.items() if found == spelled)


def tensor_name(kind: str, place: str) -> str:
    """Of the state array at a place."""
    return f"{kind}/{place}" if place else kind


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
