"""A checkpoint of several files, one of each rank, and a manifest that is written last.

The folder holds::

    manifest.json            what belongs together, and where it stood
    0123456789abcdef-0.shard a checkpoint file of its own, of what rank 0 had of each array; flat
    0123456789abcdef-1.shard

Each save gives its files names of their own, so that the manifest, which is replaced whole, always names files of one
save that are complete.  It holds the checksum of each file's header, which holds those of the file's arrays.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import Options, Storage, some
from ..arithmetic import default_arithmetic
from ..checkpoint import file
from ..checkpoint.atomic import is_of_the_system, make_folder, replace_file
from ..checkpoint.state_dict import CheckpointError, StateDict, check, restore, spell_path
from .agreement import agree
from .flat import Cuts, Flat, part

if TYPE_CHECKING:
    from mpi4py import MPI

    from ..optimizers import Optimizer

VERSION = 1
MANIFEST = "manifest.json"

_SHARD = re.compile(r"[0-9a-f]{16}-[0-9]+\.shard")
_DIGEST = slice(len('{"sha256":"'), len('{"sha256":"') + 64)


def save(folder: str, optimizer: Optimizer, flat: Flat, cuts: Cuts, comm: MPI.Comm) -> None:
    """Write the shards, then the manifest, then remove what is no longer named."""
    token = comm.bcast(secrets.token_hex(8))
    name = f"{token}-{comm.rank}.shard"
    path = os.path.join(folder, name)
    error: Exception | None = None
    try:
        if comm.rank == 0:
            make_folder(folder)
    except OSError as caught:
        error = caught
    agree(comm, {}, error)

    shard: dict[str, Any] = {}
    try:
        state_dict = optimizer.state_dict()
        file.write(path, state_dict)
        shard = {"file": name, "bytes": os.path.getsize(path), "sha256": file.identity(path)}
    except Exception as caught:
        error = caught
    shards = comm.allgather(shard)
    try:
        agree(comm, {}, error)
    except Exception:
        with suppress(OSError):
            os.unlink(path)
        comm.Barrier()  # when it is raised, all of them are gone
        raise

    try:
        if comm.rank == 0:
            for rank, each in enumerate(shards):
                _check_seen(folder, each, rank)
            replace_file(os.path.join(folder, MANIFEST), [_spell(_manifest(state_dict, flat, cuts, shards))])
            _clean(folder, {each["file"] for each in shards})
    except Exception as caught:
        error = caught
    agree(comm, {}, error)


def _check_seen(folder: str, shard: dict[str, Any], rank: int) -> None:
    path = os.path.join(folder, shard["file"])
    try:
        seen = os.path.getsize(path)
    except FileNotFoundError:
        seen = None
    if seen != shard["bytes"]:
        raise OSError(f"rank 0 does not see {path!r} as rank {rank} wrote it: all ranks must share one file system")


def _clean(folder: str, named: set[str]) -> None:
    """Remove the shards of earlier saves, those that failed or were killed included."""
    for name in os.listdir(folder):
        if _SHARD.fullmatch(name) and name not in named:
            try:
                os.unlink(os.path.join(folder, name))
            except OSError as error:
                if not is_of_the_system(error):
                    raise


def _manifest(state_dict: StateDict, flat: Flat, cuts: Cuts, shards: list[dict[str, Any]]) -> dict[str, Any]:
    arrays = zip(flat.paths, flat.dtypes, flat.shapes, flat.offsets, strict=True)
    fields: dict[str, Any] = {name: value for name, value in state_dict.items() if name != "state"}
    return fields | {
        "arrays": {
            spell_path(path): {"dtype": dtype, "shape": list(shape), "offset": offset}
            for path, dtype, shape, offset in arrays
        },
        "cuts": cuts,
        "shards": shards,
    }


@default_arithmetic
def _spell(manifest: dict[str, Any]) -> bytes:
    """The only text for it, with the checksum of what follows the checksum."""
    content = {"sha256": "0" * 64, "instep": VERSION} | manifest
    text = bytearray(json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    text[_DIGEST] = _checksum(text)
    return bytes(text)


def _checksum(text: bytes | bytearray) -> bytes:
    return sha256(text[_DIGEST.stop :]).hexdigest().encode()


def load(folder: str, optimizer: Optimizer, flat: Flat, cuts: Cuts, comm: MPI.Comm) -> None:
    """Put together what this rank needs of the shards, and go on with it once every rank has what it needs."""
    manifest: dict[str, Any] = {}
    error: Exception | None = None
    try:
        manifest = _read_manifest(folder)
        state_dict = _read(folder, manifest, optimizer, flat, cuts, comm.rank)
    except Exception as caught:
        error = caught
    agree(comm, {"the call": "load", "the manifest": manifest}, error)
    restore(optimizer, state_dict)


@default_arithmetic
def _read_manifest(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, "rb") as manifest:
            text = manifest.read()
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{folder!r} has no {MANIFEST}: no save was completed there") from None
    try:
        if text[_DIGEST] != _checksum(text):
            raise ValueError("it is damaged")
        content: dict[str, Any] = json.loads(text)
        if content["instep"] != VERSION:
            raise ValueError(f"it was written by another instep, in format {content['instep']!r:.20}")
        del content["sha256"], content["instep"]
        if _spell(content) != text:
            raise ValueError("it is not as instep writes it")
        _check(content)
        return content
    except Exception as error:
        if type(error) not in file.UNSOUND:
            raise
        raise CheckpointError(f"{path!r} is not a sound manifest: {error}") from error


def _check(manifest: dict[str, Any]) -> None:
    """Whether the shards it describes are those of arrays, side by side."""
    shards, cuts = manifest["shards"], manifest["cuts"]
    for shard in shards:
        if not _SHARD.fullmatch(shard["file"]):
            raise ValueError(f"it names {shard['file']!r:.50}, which is not the name of a shard")
    for name, cut in cuts.items():
        if not all(type(n) is int for n in cut) or cut[0] != 0 or cut != sorted(cut) or len(cut) != len(shards) + 1:
            raise ValueError(f"its cuts of {name:.20} are not those of {len(shards)} shards")
    for place, array in manifest["arrays"].items():
        numbers = [array["offset"], *array["shape"]]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"the array {place!r} is not described as one")
        if array["offset"] + math.prod(array["shape"]) > cuts[array["dtype"]][-1]:
            raise ValueError(f"the array {place!r} is not in its shards")
    check(_with_room(manifest, dict.fromkeys(manifest["arrays"], 0)))


@default_arithmetic
def _read(folder: str, manifest: dict[str, Any], optimizer: Optimizer, flat: Flat, cuts: Cuts, rank: int) -> StateDict:
    """The state of this rank, if the manifest is of such an optimizer."""
    if manifest["rule"] != optimizer.rule:
        raise ValueError(f"the state is of {manifest['rule']}, the optimizer of {optimizer.rule}")
    if manifest["storage"] != optimizer._storage.values():
        raise ValueError(f"the state is of {manifest['storage']}, the optimizer of {optimizer._storage.values()}")
    places = [spell_path(path) for path in flat.paths]
    saved = manifest["arrays"]
    if set(saved) != set(places):
        raise ValueError(f"the state is of other params: on one side only is {some(sorted(set(saved) ^ set(places)))}")
    for place, dtype, shape in zip(places, flat.dtypes, flat.shapes, strict=True):
        if (saved[place]["dtype"], tuple(saved[place]["shape"])) != (dtype, shape):
            raise ValueError(
                f"the state of {place!r} is of {saved[place]['dtype']} {tuple(saved[place]['shape'])}, "
                f"the parameter {dtype} {shape}"
            )

    wanted = {  # of each array, in its own elements
        place: part(offset, math.prod(shape), cuts[dtype][rank], cuts[dtype][rank + 1])
        for place, offset, shape, dtype in zip(places, flat.offsets, flat.shapes, flat.dtypes, strict=True)
    }
    sizes = {place: piece.stop - piece.start for place, piece in wanted.items()}
    state_dict = _with_room(manifest, sizes)
    state = state_dict["state"]
    for number, shard in enumerate(manifest["shards"]):
        there = {place: _there(saved[place], manifest["cuts"], number) for place in places}
        if not any(_overlap(wanted[place], there[place]) for place in places):
            continue
        for name, pieces in _read_shard(os.path.join(folder, shard["file"]), shard, manifest).items():
            for place, piece in pieces.items():
                here, found, array = wanted[place], there[place], state[name][place]
                if piece.shape != (found.stop - found.start,) or piece.dtype != array.dtype:
                    raise CheckpointError(f"{shard['file']!r} has another part of {place!r} than the manifest says")
                both = _overlap(here, found)
                start = max(here.start, found.start)
                array[start - here.start :][:both] = piece[start - found.start :][:both]
    return state_dict


def _with_room(manifest: dict[str, Any], sizes: dict[str, int]) -> StateDict:
    """A state_dict of what the manifest has, with arrays of these sizes that are still to be filled."""
    fields: Any = {name: manifest[name] for name in StateDict.__annotations__ if name != "state"}
    names = Storage(**fields["storage"]).names(Options(fields["rule"]).replace(fields["options"], ()))
    dtypes = {place: array["dtype"] for place, array in manifest["arrays"].items()}
    state = {name: {place: np.empty(size, dtypes[place]) for place, size in sizes.items()} for name in names}
    fields["state"] = state
    state_dict: StateDict = fields
    return state_dict


def _overlap(a: slice, b: slice) -> int:
    """How many elements are in both."""
    common: int = min(a.stop, b.stop) - max(a.start, b.start)
    return max(0, common)


def _there(array: dict[str, Any], cuts: Cuts, shard: int) -> slice:
    """Which elements of an array a shard has."""
    cut = cuts[array["dtype"]]
    return part(array["offset"], math.prod(array["shape"]), cut[shard], cut[shard + 1])


def _read_shard(path: str, shard: dict[str, Any], manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The state in a file that the manifest names, if it is that file."""
    try:
        if os.path.getsize(path) != shard["bytes"] or file.identity(path) != shard["sha256"]:
            raise CheckpointError(f"{path!r} is not the file that the manifest was written for")
        state_dict: dict[str, Any] = dict(file.read(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path!r}, which the manifest names, is not there") from None
    state: dict[str, dict[str, Any]] = state_dict.pop("state")
    for name, value in state_dict.items():
        if value != manifest[name]:
            raise CheckpointError(f"{path!r} has another {name} than the manifest")
    return state
