"""Train with NumPy on many machines: gradients summed, state sharded, parameters gathered, by MPI.

Run it with ``mpiexec -n 4 python -m mpi4py script.py``.  ``-m mpi4py`` ends the job when one rank ends with an
exception; without it the other ranks would wait for that one for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np

from ._core import Nest, rules
from .arithmetic import Array
from .groups import options_of_arrays
from .optimizers import Optimizer
from .sharding import checkpoint
from .sharding.agreement import Facts, agree
from .sharding.flat import LINE, Flat, check_array, in_line, spell
from .sharding.sums import Pairwise, add_up

try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
    why = str(error).partition("\n")[0]  # the other lines are all the names that were tried
    raise ImportError(
        f"instep.mpi needs mpi4py and an MPI library: pip install mpi4py mpich (the extra mpi): {why}"
    ) from error

__all__ = ["Sharded"]

BUCKET = 1 << 22  # bytes that a rank receives at once
# What does the same to an element whatever the others are, of all that is done beside the formula of a rule.
BY_ELEMENT = {"grad_scale", "clip_value", "zero_grads", "average_decay", "seed"}


_PRIVATE = MPI.Comm.Create_keyval()


class _Private:
    """What all optimizers of a communicator have in common."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm = comm.Dup()  # the same ranks, apart from the trainer's own messages
        self.is_collecting = False  # a step asks the trainer for its gradients

    @classmethod
    def of(cls, comm: MPI.Intracomm) -> _Private:
        found = comm.Get_attr(_PRIVATE)
        if not isinstance(found, cls):
            found = cls(comm)
            comm.Set_attr(_PRIVATE, found)
        return found


class Sharded:
    """An optimizer whose state is cut into shards, one for each rank of an MPI communicator.

    Every rank has all parameters and computes the gradients of its own share of the micro-batches.  A step sums the
    gradients over all micro-batches, steps on each rank the shard that is the rank's own, and gives the parameters to
    all ranks.  A rank holds the parameters and gradients, and one n-th of the state.

    All methods are to be called by all ranks, in the same order.  What is wrong on one rank raises on all of them:
    there its own exception, elsewhere a copy of it with a note of the rank.  What computes the gradients of a step must
    call none of them, of no optimizer of the same communicator, nor make one: there it is a RuntimeError.

    Parameters
    ----------
    make : class or callable
        Makes the optimizer of a shard from its params, such as `instep.Adam`, or
        ``lambda params: instep.Adam.preset("keras", params)``.
    params : nesting of numpy.ndarray
        The start values, float32 or float64, in any memory layout; they are copied.  They must be the same on every
        rank, which the first step checks, and no two may overlap in memory.
    comm : mpi4py.MPI.Intracomm
        The ranks; by default all of them.
    micro_batches : int
        How many gradients a step sums, in all; by default one a rank.  The number of ranks times a power of two, or
        any number on one rank.  With the same number of them, a run has the same bits on any number of ranks.
    **options
        Given to `make`, groups included.  What looks at all elements of a gradient is refused, and so is rounding at
        random: clipping by a norm, skipped steps, statistics, `state_dtype` and `master`.

    Attributes
    ----------
    params : nesting of numpy.ndarray
        The parameters, in C order, to compute gradients with.
    grads : nesting of numpy.ndarray
        Arrays of the same shapes to write gradients into, which spares a copy.  A step overwrites them, with zeros
        where `zero_grads` is set, for a trainer that adds to them; so does one that raises.
    shard : Optimizer
        That of this rank.  Assign options to it, on every rank alike: ``opt.shard.lr = 1e-4``.
    micro_batches : range
        Which of them are this rank's.
    comm : mpi4py.MPI.Intracomm
        The ranks.

    Raises
    ------
    TypeError, ValueError
        As for the class of the optimizer; two params overlap; `micro_batches` does not go with the number of ranks; the
        ranks differ in what they give.

    Examples
    --------
    >>> import numpy as np, instep
    >>> from instep.mpi import Sharded
    >>> opt = Sharded(instep.SGD, {"w": np.zeros(3)}, lr=0.5)
    >>> for _ in range(2):
    ...     opt.step([{"w": opt.params["w"] - 1.0}])  # the gradient of half the squared distance to 1
    >>> opt.params["w"]
    array([0.75, 0.75, 0.75])
    """

    def __init__(
        self,
        make: Callable[..., Optimizer],
        params: Any,
        *,
        comm: MPI.Intracomm | None = None,
        micro_batches: int | None = None,
        **options: Any,
    ) -> None:
        self.comm = MPI.COMM_WORLD if comm is None else comm
        self._common = _Private.of(self.comm)
        self._private = self._common.comm
        self._refuse_within("Sharded")
        facts: Facts = {}
        error: BaseException | None = None
        try:
            facts = self._make(make, params, self.comm.size if micro_batches is None else micro_batches, options)
        except (Exception, SystemExit) as caught:
            error = caught
        agree(self._private, {"the call": "Sharded"} | facts, error)

    def _make(self, make: Callable[..., Optimizer], params: Any, micro_batches: int, options: Any) -> Facts:
        rank, ranks = self.comm.rank, self.comm.size
        if type(micro_batches) is not int:
            raise TypeError(f"micro_batches must be an int, not {micro_batches!r}")
        each, rest = divmod(micro_batches, ranks)
        if each < 1 or rest or (ranks > 1 and each & (each - 1)):
            raise ValueError(f"micro_batches={micro_batches} must be {ranks} ranks times a power of two")
        self.micro_batches = range(rank * each, (rank + 1) * each)

        flat = self._flat = Flat(params)
        self._params, self._grads = flat.buffers(), flat.buffers()
        self._cuts = flat.cuts(ranks)
        views = self._param_views = flat.views(self._params)
        for view, given in zip(views, flat.given, strict=True):
            view[...] = given
        del flat.given
        self._grad_views = flat.views(self._grads)
        self._grad_pieces = flat.pieces(self._grad_views, self._cuts, rank)
        self._sum = Pairwise(list(self._grads.values()), each)
        self._buckets = {name: self._bucket(name) for name, size in flat.sizes.items() if size and ranks > 1}
        self._checked = False  # whether all ranks have the same parameters

        self.params = flat.nest.build(views)
        self.grads = flat.nest.build(self._grad_views)
        self.shard = make(flat.nest.build(flat.pieces(views, self._cuts, rank)), **options)
        if not isinstance(self.shard, Optimizer):
            raise TypeError(f"make must return an Optimizer, not a value of type {type(self.shard).__name__}")
        arrays = zip(flat.paths, flat.dtypes, flat.shapes, strict=True)
        shapes = {spell("params", path): (dtype, shape) for path, dtype, shape in arrays}
        return {"micro_batches": micro_batches} | shapes | self._state_facts()

    def _bucket(self, dtype: str) -> Array:
        """Room for a part of this rank's shard from every rank: a row for each."""
        lines = BUCKET // LINE // self.comm.size
        longest = max(stop - start for start, stop in pairwise(self._cuts[dtype]))
        return np.empty((self.comm.size, min(max(lines, 1) * in_line(dtype), longest)), dtype)

    def _state_facts(self) -> Facts:
        """What all ranks must agree in, if it is what a shard can do by itself."""
        shard = self.shard
        if any(shard._storage.values().values()):
            raise ValueError(f"state_dtype and master are not for shards: rounding would depend on the cuts; {shard!r}")
        for options in (shard.options, *shard._patterns.values()):
            for name, value in options.items():
                if name not in BY_ELEMENT | set(shard._options.of_formula) and value != rules()[shard.rule][name]:
                    raise ValueError(f"{name}={value!r} is not for shards, each of which has its own elements only")
        return {
            "the rule": shard.rule,
            "step_count": shard.step_count,
            **{f"the option {name}": value for name, value in shard.options.items()},
            "the groups": shard._patterns,
        }

    def _refuse_within(self, call: str) -> None:
        """Raise if the trainer makes this call while it computes the gradients of a step.

        Another rank may be about to agree about that step, and this call would be taken for its answer.  The exception
        ends the step, which then raises it on all ranks.
        """
        if self._common.is_collecting:
            raise RuntimeError(f"{call} was called while a step on the same ranks waits for its gradients")

    @contextmanager
    def averaged(self) -> Iterator[Any]:
        """A context in which the parameters are their averages, on all ranks.  Needs `average_decay`.

        The parameters come back, to the bit and on all ranks, however it is left.  What leaves it on one rank is raised
        on all of them, once they have left it.

        Yields
        ------
        nesting of numpy.ndarray
            `params`, which hold the averages until the context is left.
        """
        self._refuse_within("averaged")
        facts: Facts = {}
        error: BaseException | None = None
        with ExitStack() as swapped:
            try:
                facts = {"the call": "averaged"} | self._state_facts()
                swapped.enter_context(self.shard.averaged())
            except Exception as caught:
                error = caught
            agree(self._private, facts, error)
            self._gather()
            try:
                yield self.params
            except BaseException as caught:
                error = caught
        self._meet("the end of averaged")
        self._gather()
        self._checked = False
        agree(self._private, {}, error)

    def _meet(self, place: str) -> None:
        """Wait for all ranks.  In one that has made another call instead, it raises, which brings that rank here."""
        while True:
            try:
                agree(self._private, {"the call": place})
            except MPI.Exception:
                raise
            except Exception:
                continue
            return

    @property
    def step_count(self) -> int:
        """How many steps have been taken."""
        return self.shard.step_count

    def step(self, grads: Iterable[Any]) -> None:
        """Sum the gradients of all micro-batches on all ranks, advance the state and move every parameter.

        Whatever is raised, no parameter, state or count has changed, on any rank, and training can go on.  The
        gradients of that step are lost, and `grads` is 0 on every rank where `zero_grads` is set.

        Parameters
        ----------
        grads : iterable
            The gradients of one micro-batch of this rank after the other, best from a generator that computes them
            when they are asked for.  Each is in the nesting of the params, every gradient of the shape and dtype of
            its parameter, in any layout.  All are copied, but the arrays of `grads` of this optimizer.  None stands
            for a gradient that there is none of: in all micro-batches of all ranks, or in none.  With `zero_grads`
            each is 0 when the next one is asked for.

        Raises
        ------
        TypeError
            A gradient is not an array or has another dtype.
        ValueError
            A gradient has another shape, or there is none for an array; there are too many or too few micro-batches;
            the ranks differ in options, counts, or which gradients are None, or before the first step in parameters.
        RuntimeError
            The iterable has made an optimizer of the same communicator, or called a method of one that all ranks are to
            call.
        Exception
            Whatever the iterable has raised, on any rank.
        """
        self._refuse_within("step")
        facts: Facts = {}
        error: BaseException | None = None
        try:
            missing = self._collect(grads)
            absent = [spell("grads", path) for path, lacks in zip(self._flat.paths, missing, strict=True) if lacks]
            facts = {"the call": "step", "which gradients are None": absent} | self._state_facts()
            if not self._checked:
                facts |= {f"the values of {what}": digest for what, digest in self._digests()}
        except (Exception, SystemExit) as caught:
            error = caught
        try:
            agree(self._private, facts, error)
        except (Exception, SystemExit):
            self._zero([False] * len(self._grad_views))  # or the next step would add to what this one had summed up
            raise
        self._checked = True
        self._sum_over_ranks()
        own = [None if lacks else piece for lacks, piece in zip(missing, self._grad_pieces, strict=True)]
        self.shard.step(self._flat.nest.build(own))
        self._zero(missing)
        self._gather()

    def _digests(self) -> Iterator[tuple[str, str]]:
        for path, param in zip(self._flat.paths, self._param_views, strict=True):
            yield spell("params", path), sha256(param.reshape(-1).data).hexdigest()[:32]

    def _collect(self, given: Iterable[Any]) -> list[bool]:
        """Sum the gradients of this rank; which of them are None."""
        self._common.is_collecting = True
        try:
            return self._add_up(given)
        finally:
            self._common.is_collecting = False

    def _add_up(self, given: Iterable[Any]) -> list[bool]:
        missing: list[bool] = []
        term = -1
        for term, grads in enumerate(given):
            if term == len(self.micro_batches):
                raise ValueError(f"step got the gradients of more than {term} micro-batches of this rank")
            of = f" of micro-batch {self.micro_batches[term]}"
            lacks = self._copy(grads, of)
            if term and lacks != missing:
                path = next(p for p, a, b in zip(self._flat.paths, lacks, missing, strict=True) if a != b)
                raise ValueError(f"{spell('grads', path)} is None in some micro-batches only: give zeros there")
            missing = lacks
            self._sum.take(term)
            if term + 1 < len(self.micro_batches):
                self._zero(missing)
        if term + 1 < len(self.micro_batches):
            raise ValueError(f"step got the gradients of {term + 1} of {len(self.micro_batches)} micro-batches")
        if all(missing):
            raise ValueError("every gradient is None: there is nothing to step")
        return missing

    def _zeroed(self) -> list[bool]:
        """The option `zero_grads` of each array."""
        each = options_of_arrays(self.shard._paths, {"zero_grads": self.shard.zero_grads}, self.shard._patterns)
        return [options["zero_grads"] for options in each]

    def _zero(self, missing: list[bool]) -> None:
        """Set the gradients of this rank to 0, where they are to be."""
        for view, lacks, zero in zip(self._grad_views, missing, self._zeroed(), strict=True):
            if zero and not lacks:
                view[...] = 0

    def _copy(self, grads: Any, of: str) -> list[bool]:
        """Check the gradients of one micro-batch, then copy them where they are not; which of them are None."""
        leaves: list[Any] = []
        paths: list[tuple[Any, ...]] = []
        Nest.of(grads, leaves, paths)
        found = dict(zip(paths, leaves, strict=True))
        places = dict(zip(self._flat.paths, self._grad_views, strict=True))
        for path in places.keys() - found.keys():
            raise ValueError(f"there is no {spell('grads', path)}{of}: step takes an iterable, one item a micro-batch")
        for path in found.keys() - places.keys():
            raise ValueError(f"{spell('grads', path)}{of} is the gradient of no parameter")
        copied = []
        for (path, view), zero in zip(places.items(), self._zeroed(), strict=True):
            grad, what = found[path], f"{spell('grads', path)}{of}"
            if grad is view or grad is None:
                continue
            check_array(what, grad)
            if grad.shape != view.shape:
                raise ValueError(f"{what} has shape {grad.shape}, expected {view.shape}")
            if grad.dtype != view.dtype:
                raise TypeError(f"{what} has dtype {grad.dtype}, expected {view.dtype}")
            if any(np.may_share_memory(grad, buffer) for buffer in self._grads.values()):
                raise ValueError(f"{what} overlaps opt.grads in memory and is not the array that opt.grads has there")
            if zero and not grad.flags.writeable:
                raise ValueError(f"{what} is read-only, and zero_grads is to set it to 0")
            copied.append((view, grad, zero))
        for view, grad, zero in copied:
            view[...] = grad
            if zero:
                grad[...] = 0
        return [found[path] is None for path in places]

    def _sum_over_ranks(self) -> None:
        """The sum of all ranks' gradients into the shard of this rank, bucket by bucket."""
        rank, ranks = self.comm.rank, self.comm.size
        for name, bucket in self._buckets.items():
            grads, cuts = self._grads[name], self._cuts[name]
            width = bucket.shape[1]
            for done in range(0, max(stop - start for start, stop in pairwise(cuts)), width):
                begins = [min(start + done, stop) for start, stop in pairwise(cuts)]
                counts = [min(width, stop - begin) for begin, stop in zip(begins, cuts[1:], strict=True)]
                own = grads[begins[rank] : begins[rank] + counts[rank]]
                coming = [0 if other == rank else own.size for other in range(ranks)]
                counts[rank] = 0
                rows = [other * width for other in range(ranks)]
                self._private.Alltoallv([grads, (counts, begins)], [bucket, (coming, rows)])
                parts = [own if other == rank else bucket[other, : own.size] for other in range(ranks)]
                add_up(parts, out=own)

    def _gather(self) -> None:
        """Every rank's shard of the parameters to all ranks, straight to where it belongs.

        Allgatherv of MPICH 5.0 took 23 ms where this takes 5, and 4 s where it takes 20 ms when there are more ranks
        than processors.
        """
        rank, ranks = self.comm.rank, self.comm.size
        for name, params in self._params.items():
            shards = [params[start:stop] for start, stop in pairwise(self._cuts[name])]
            others = [(rank + k) % ranks for k in range(1, ranks)]
            coming = [self._private.Irecv(shards[other], other) for other in others]
            MPI.Request.Waitall(coming + [self._private.Isend(shards[rank], other) for other in others])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the state to a folder, a checkpoint file for each rank and then a manifest of them.

        The parameters are not in it, for they are the trainer's: let one rank write them beside it.

        Parameters
        ----------
        folder : str or os.PathLike
            In a file system that all ranks share.  It is made if its parent is there.  When `save` returns, the
            checkpoint in it is the new one, and on the disk.  When it raises, or never returns, it is the one that was
            there before, or the new one.  The files of the old one are removed once nothing needs them.

        Raises
        ------
        OSError
            A file could not be written, or the ranks do not share the folder.
        TypeError, ValueError
            As for `Optimizer.save`; the ranks differ in options or counts.
        """
        self._refuse_within("save")
        facts, error = {}, None
        try:
            facts = {"the call": "save", "the folder": os.fspath(folder)} | self._state_facts()
        except Exception as caught:
            error = caught
        agree(self._private, facts, error)
        checkpoint.save(os.fsdecode(folder), self.shard, self._flat, self._cuts, self._private)

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Go on from what any number of ranks have saved, with its options.

        Whatever is raised, nothing has changed, on any rank.

        Parameters
        ----------
        folder : str or os.PathLike
            Of an optimizer of the same rule over arrays of the same places, shapes and dtypes.

        Raises
        ------
        OSError
            A file could not be read.
        CheckpointError
            The folder has no checkpoint, or one that is damaged or was written by a newer instep.
        ValueError
            The checkpoint is sound, but of another rule or other params.
        """
        self._refuse_within("load")
        checkpoint.load(os.fsdecode(folder), self.shard, self._flat, self._cuts, self._private)
        self._checked = False

    def __repr__(self) -> str:
        return f"Sharded({self.shard!r}, rank {self.comm.rank} of {self.comm.size})"
