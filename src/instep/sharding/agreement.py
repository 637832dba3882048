"""All ranks go on, or an exception is raised on each of them."""

from __future__ import annotations

import builtins
from contextlib import suppress
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
    said: list[tuple[tuple[str, str, str] | None, Facts]] = comm.allgather((_told(error), facts))
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


def _told(error: BaseException | None) -> tuple[str, str, str] | None:
    """Its type, what it says, and the string that it is made of: an exception itself cannot always be sent."""
    if error is None:
        return None
    says = str(error)
    made_of = error.args[0] if len(error.args) == 1 and type(error.args[0]) is str else says
    return type(error).__name__, says, made_of


def _as_told(name: str, says: str, made_of: str) -> Exception:
    """Of this type, if it is instep's own or built in and says the same when made of a string; else a RuntimeError."""
    kind = CheckpointError if name == CheckpointError.__name__ else getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with suppress(TypeError):  # from one that is made of more than a string
            made = kind(made_of)
            if str(made) == says:
                return made
    return RuntimeError(f"{name}: {says}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
