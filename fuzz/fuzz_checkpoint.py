"""Any bytes as a checkpoint: they are refused with a CheckpointError, or they are what `save` would have written.

An input is a file.  When its first byte is odd, the checksum of the header is put right before it is read, so that
mutations get past it.  Run it as ``python fuzz/fuzz_checkpoint.py CORPUS [libFuzzer's options]``; files to start from
are put into CORPUS.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    import numpy as np

    import instep
    from instep import checkpoint

scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
given, again = scratch / "given", scratch / "again"


def put_checksum_right(file: bytes) -> bytes:
    """The file with the checksum that its header ought to have."""
    header = file[8 : 8 + int.from_bytes(file[:8], "little")]
    start, end = (8 + edge for edge in (checkpoint._DIGEST.start, checkpoint._DIGEST.stop))
    return file[:start] + checkpoint._digest(header) + file[end:]


def try_file(data: bytes) -> None:
    """Read the input; what is read without complaint must be written in the same bytes."""
    file = data[1:]
    if data[:1] and data[0] % 2:
        file = put_checksum_right(file)
    given.write_bytes(file)
    try:
        state_dict = checkpoint.read(given)
    except instep.CheckpointError:
        return
    checkpoint.write(again, state_dict)
    if again.read_bytes() != file:
        raise AssertionError("a file was taken that save does not write")


def put_seeds(corpus: Path) -> None:
    """Sound checkpoints of several options, dtypes and nestings, and the same with the odd first byte."""
    corpus.mkdir(parents=True, exist_ok=True)
    for k, options in enumerate([{}, {"momentum": 0.9}, {"centered": True, "momentum": 0.5, "nesterov": True}]):
        for dtype in (np.float32, np.float64):
            params = {"w": np.ones((2, 3), dtype), "b": [np.zeros(0, dtype), np.ones((), np.float64)]}
            optimizer = instep.RMSprop(params, **options)
            optimizer.step(params_like(params))
            optimizer.save(given)
            for first in (b"\0", b"\1"):
                (corpus / f"sound-{k}-{np.dtype(dtype)}-{first[0]}").write_bytes(first + given.read_bytes())


def params_like(nest: object) -> object:
    """Gradients of ones."""
    if isinstance(nest, dict):
        return {key: params_like(value) for key, value in nest.items()}
    if isinstance(nest, list):
        return [params_like(value) for value in nest]
    return np.ones_like(nest)


if __name__ == "__main__":
    put_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, try_file)
    atheris.Fuzz()
