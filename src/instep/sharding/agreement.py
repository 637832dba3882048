"""All ranks go on, or an exception is raised on each of them."""

from __future__ import annotations

import builtins
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.state_dict import CheckpointError

if TYPE_CHECKING:
    from mpi4py import MPI

Facts = dict[str, Any]


def agree(comm: MPI.Comm, facts: Facts, error: BaseException | None = None) -> None:
    """Return if no rank has an error and all of them state the same facts, by name; raise on every rank otherwise.

    A rank that has an error raises it, the others that of the first rank that has one, with a note which rank it is.
    Where facts differ, it is a ValueError that says in what.
    """
    digest = blake2b(repr(facts).encode(), digest_size=24).digest() if error is None else bytes(24)
    mine = np.frombuffer(digest + (error is not None).to_bytes(8, "little"), np.uint64)
    every = np.empty((comm.size, mine.size), np.uint64)
    comm.Allgather(mine, every)
    if error is None and (every == mine).all():
        return
    said: list[tuple[tuple[str, str] | None, Facts]] = comm.allgather((_told(error), facts))
    if error is not None:
        raise error
    for rank, (told, _) in enumerate(said):
        if told is not None:
            other = _as_told(*told)
            other.add_note(f"raised on rank {rank}")
            raise other
    stated = [facts for _, facts in said]
    for name in dict.fromkeys(name for facts in stated for name in facts):
        for rank, facts in enumerate(stated):
            if repr(facts.get(name)) != repr(stated[0].get(name)):
                raise ValueError(
                    f"the ranks differ in {name}: {_short(stated[0].get(name))} on rank 0, "
                    f"{_short(facts.get(name))} on rank {rank}"
                )


def _told(error: BaseException | None) -> tuple[str, str] | None:
    """Its type and message: an exception itself cannot always be sent."""
    return None if error is None else (type(error).__name__, str(error))


def _as_told(name: str, message: str) -> Exception:
    """Of this type, if it is built in and made of a message, or instep's own; else a RuntimeError that names it."""
    kind = CheckpointError if name == CheckpointError.__name__ else getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
        return kind(message)
    return RuntimeError(f"{name}: {message}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
