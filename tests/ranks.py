"""What `test_mpi.py` runs on several ranks: ``mpiexec -n 2 python -m mpi4py ranks.py PROGRAM ARGUMENTS``.

Each program returns something for each rank; rank 0 prints all of it as JSON, in the order of the ranks.
"""

import json
import os
import signal
import sys
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from mpi4py import MPI

import instep
import instep.mpi
from instep._core import Options, rules
from instep.checkpoint import file
from instep.mpi import Sharded
from instep.sharding import checkpoint
from trials import CLASSES, NUMBERS, situations

RANK, RANKS = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
MICRO_BATCHES = 8

SHAPES = {"w": (37, 11), "layers": [{"b": (5,), "empty": (0, 3)}, {"scalar": (), "long": (1013,)}]}
CHANGED = {"lr": 0.002, "weight_decay": 0.04}


def nesting(make, shapes=SHAPES):
    if isinstance(shapes, dict):
        return {name: nesting(make, inner) for name, inner in shapes.items()}
    if isinstance(shapes, list):
        return [nesting(make, inner) for inner in shapes]
    return make(shapes)


def arrays(seed, dtype):
    """Of one dtype, or of two when it is "both"; of sizes so different that the order of a sum shows."""
    random = np.random.default_rng(seed)

    def make(shape):
        of = {"both": "float32" if len(shape) == 1 else "float64"}.get(dtype, dtype)
        return np.asarray(random.standard_normal(shape) * 10.0 ** random.uniform(-4, 4, shape), of)

    return nesting(make)


def gradients(step, micro_batch, dtype):
    grads = arrays([step, micro_batch], dtype)
    if step % 3 == 1:
        grads["layers"][1]["long"] = None
    return grads


def added_up(terms):
    """Of nestings, halves first."""
    if len(terms) == 1:
        return terms[0]
    a, b = added_up(terms[: len(terms) // 2]), added_up(terms[len(terms) // 2 :])

    def add(x, y):
        if isinstance(x, dict):
            return {name: add(x[name], y[name]) for name in x}
        if isinstance(x, list):
            return [add(*pair) for pair in zip(x, y, strict=True)]
        return None if x is None else np.asarray(x + y, x.dtype)

    return add(a, b)


def leaves(nested):
    if isinstance(nested, dict):
        return [leaf for inner in nested.values() for leaf in leaves(inner)]
    if isinstance(nested, list):
        return [leaf for inner in nested for leaf in leaves(inner)]
    return [nested]


def digest(optimizer, params, states):
    found = sha256()
    for array in [*leaves(params), *states]:
        found.update(array.tobytes())
    counts = optimizer._snapshot()[2:]
    return found.hexdigest()[:16] + f" {counts[0]} {sum(counts[1])}"


def whole_states(sharded):
    """The state arrays, put together from all ranks."""
    mine = {name: [a.copy() for a in arrays] for name, arrays in sharded.shard._states.items()}
    every = sharded.comm.allgather(mine)
    return [np.concatenate(pieces) for name in mine for pieces in zip(*(each[name] for each in every), strict=True)]


def sharded_digest(sharded):
    return digest(sharded.shard, sharded.params, whole_states(sharded))


def train(sharded, steps, dtype="both"):
    for step in steps:
        if step == 2:
            for name, value in CHANGED.items():
                setattr(sharded.shard, name, value)
        sharded.step(gradients(step, k, dtype) for k in sharded.micro_batches)


# ---- bits -------------------------------------------------------------------------------------------------------


def unsharded():
    """The same steps by one optimizer in one process, for every rule."""
    found = {}
    for situation, (rule, options) in situations().items():
        for dtype in ("float32", "both"):
            optimizer = CLASSES[rule](arrays(0, dtype), **options)
            for step in range(4):
                if step == 2:
                    for name, value in CHANGED.items():
                        setattr(optimizer, name, value)
                optimizer.step(added_up([gradients(step, k, dtype) for k in range(MICRO_BATCHES)]))
            states = [array.ravel() for arrays in optimizer._states.values() for array in arrays]
            found[f"{situation}, {dtype}"] = digest(optimizer, optimizer.params, states)
    return found


def every_rule(bucket):
    """Digests by situation; the state of a rank in bytes and that of all."""
    instep.mpi.BUCKET = int(bucket)
    found = {}
    for situation, (rule, options) in situations().items():
        for dtype in ("float32", "both"):
            sharded = Sharded(CLASSES[rule], arrays(0, dtype), micro_batches=MICRO_BATCHES, **options)
            train(sharded, range(4), dtype)
            sizes = [sum(a.nbytes for arrays in sharded.shard._states.values() for a in arrays)]
            found[f"{situation}, {dtype}"] = sharded_digest(sharded), MPI.COMM_WORLD.allgather(sizes[0])
    return found


AROUND = dict(groups={"*/b": {"lr": 0.5, "weight_decay": 0.0}}, average_decay=0.9, clip_value=0.01, grad_scale=0.125)


def train_one(optimizer, steps, dtype="both"):
    for step in steps:
        optimizer.step(added_up([gradients(step, k, dtype) for k in range(MICRO_BATCHES)]))


def around_the_rule():
    """Groups and what else goes with shards: the digests of the parameters, of their averages and of the state."""
    sharded = Sharded(instep.AdamW, arrays(0, "both"), micro_batches=MICRO_BATCHES, **AROUND)
    for step in range(2):
        sharded.step(gradients(step, k, "both") for k in sharded.micro_batches)
    with sharded.averaged() as averages:
        averaged = sharded_digest(sharded)
        assert averages is sharded.params
    alone = instep.AdamW(arrays(0, "both"), **AROUND)
    train_one(alone, range(2))
    states = [array.ravel() for arrays in alone._states.values() for array in arrays]
    with alone.averaged():
        averaged_alone = digest(alone, alone.params, states)
    return [sharded_digest(sharded), averaged], [digest(alone, alone.params, states), averaged_alone]


def leaves_averaged(how):
    """Leave `averaged` by what the last rank raises there: what each rank is told, and what it has before and after."""

    def in_the_body():
        if RANK == RANKS - 1:
            raise {"exception": ZeroDivisionError, "exit": SystemExit}[how]("mine")
        if how == "exit":  # while the others are in another call
            with_w_stepped(sharded)

    sharded = Sharded(instep.SGD, arrays(0, "both"), micro_batches=MICRO_BATCHES, lr=1e-3, average_decay=0.5)

    def with_w_stepped(sharded):
        sharded.step(gradients(9, k, "both") for k in sharded.micro_batches)

    with_w_stepped(sharded)
    with_w_stepped(sharded)
    before = sharded_digest(sharded)
    try:
        with sharded.averaged():
            averaged = sharded_digest(sharded)
            in_the_body()
        told = None
    except BaseException as error:
        told = [type(error).__name__, str(error), getattr(error, "__notes__", [])]
    after = sharded_digest(sharded)
    with_w_stepped(sharded)
    return told, before, averaged, after, sharded_digest(sharded)


def every_option():
    """Of those that are not of a formula: what is said of it, or whether a run with it has the bits of one process."""
    found = {}
    for name, default in rules()["adam"].items():
        if name in Options("adam").of_formula:
            continue
        values = {"count": [3], "positive": [0.125], **NUMBERS}[Options("adam").ranges[name]]
        given = {name: next(value for value in values if value != default)}
        given |= {"grow_every": dict(skip_nonfinite=True), "exact_rows": dict(beta1=0.0)}.get(name, {})
        alone = instep.Adam(arrays(0, "both"), **given)
        train_one(alone, [0, 2])
        try:
            sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=MICRO_BATCHES, **given)
            for step in (0, 2):
                sharded.step(gradients(step, k, "both") for k in sharded.micro_batches)
        except ValueError as error:
            found[name] = str(error)
        else:
            states = [array.ravel() for arrays in alone._states.values() for array in arrays]
            found[name] = digest(alone, alone.params, states) == sharded_digest(sharded)
    return found


def written_in_place():
    """The bits do not depend on who owns the gradients, nor on their layout."""
    found = []
    for kind in ("given", "in place", "fortran", "mapped"):
        sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=MICRO_BATCHES)

        def as_it_is(sharded, step, k, kind):
            grads = gradients(step, k, "both")
            if kind == "fortran":
                grads["w"] = np.asfortranarray(grads["w"])
                grads["layers"][0]["b"] = np.repeat(grads["layers"][0]["b"], 2)[::2]
            if kind == "mapped":
                mapped = np.memmap(f"grad-{RANK}", grads["w"].dtype, "w+", shape=grads["w"].shape)
                mapped[...] = grads["w"]
                grads["w"] = mapped
            if kind != "in place":
                return grads
            for own, grad in zip(leaves(sharded.grads), leaves(grads), strict=True):
                own[...] = grad
            return sharded.grads

        for step in (0, 2):
            sharded.step(as_it_is(sharded, step, k, kind) for k in sharded.micro_batches)
        found.append(sharded_digest(sharded))
    return found


def zeroed():
    """Gradients that are added up in place, and own ones: the digests, and what is left in the gradients."""
    found, left = [], []
    for kind in ("plain", "in place", "own"):
        some = dict(groups={"*/b": {"zero_grads": True}}) if kind == "plain" else dict(zero_grads=True)
        sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=MICRO_BATCHES, **some)
        own = {"plain": None, "in place": sharded.grads, "own": arrays(0, "both")}[kind]
        for array in leaves(own) if kind == "own" else []:
            array[...] = 0

        def added(step, k, own):
            grads = gradients(step, k, "both")
            if own is None:
                return grads
            for array, grad in zip(leaves(own), leaves(grads), strict=True):
                if grad is not None:
                    array += grad
            return nested_like(own, grads)

        for step in range(3):
            sharded.step(added(step, k, own) for k in sharded.micro_batches)
        found.append(sharded_digest(sharded))
        if own is not None:
            left += [float(abs(array).max(initial=0)) for array in leaves(own)]
    read_only = arrays(0, "both")
    read_only["w"].flags.writeable = False
    try:
        sharded.step([read_only] * len(sharded.micro_batches))
    except ValueError as error:
        return found, left, str(error)


def zeroed_after_a_step_that_raised():
    """What each step adds, and what is left of a step in which the last rank raises before it has added."""
    sharded = Sharded(instep.SGD, {"w": np.zeros(3)}, lr=1.0, zero_grads=True, micro_batches=2 * RANKS)

    def backward(is_bad):
        for k in sharded.micro_batches:
            if is_bad and k == 2 * RANKS - 1:
                raise ZeroDivisionError
            sharded.grads["w"] += 1.0
            yield sharded.grads

    found = []
    for is_bad in (False, True, False):
        try:
            sharded.step(backward(is_bad))
        except ZeroDivisionError:
            found.append(sharded.grads["w"].tolist())
        else:
            found.append(sharded.params["w"].tolist())
    return found


def nested_like(own, grads):
    """The arrays of `own`, and None where `grads` has None."""
    if isinstance(own, dict):
        return {name: nested_like(own[name], grads[name]) for name in own}
    if isinstance(own, list):
        return [nested_like(*pair) for pair in zip(own, grads, strict=True)]
    return None if grads is None else own


def blocks(*numbers):
    """A run with each number of micro-batches, the same digest on every number of ranks that is not refused."""
    found = {}
    for number in map(int, numbers):
        try:
            sharded = Sharded(instep.RMSprop, arrays(0, "float32"), micro_batches=number)
        except ValueError:
            found[number] = None
        else:
            train(sharded, [0], "float32")
            found[number] = sharded_digest(sharded)
    return found


def nothing_in_a_dtype(folder):
    """Empty arrays only, and those of one dtype beside others: whatever one process does."""
    for number, params in enumerate(([np.zeros((0, 3))], [np.zeros((0, 3)), np.zeros(3, "float32")])):
        sharded = Sharded(instep.SGD, params, lr=1.0, average_decay=0.5)
        for _ in range(2):
            sharded.step([[np.ones_like(param) for param in params]])
        with sharded.averaged():
            pass
        sharded.save(Path(folder) / str(number))
        sharded.load(Path(folder) / str(number))
    return [param.tolist() for param in sharded.params], sharded.step_count


def default():
    """One micro-batch a rank, many more ranks than lines to cut, and messages of the trainer's own."""
    request = MPI.COMM_WORLD.irecv(source=MPI.ANY_SOURCE, tag=MPI.ANY_TAG)
    sharded = Sharded(lambda params: instep.Adam.preset("keras", params, lr=0.5), [np.zeros(3), np.zeros((2, 2))])
    sharded.step([[np.full(3, 1.0 + RANK), np.full((2, 2), -1.0)]])
    MPI.COMM_WORLD.isend("mine", (RANK + 1) % RANKS)
    assert request.wait() == "mine"
    return [param.tolist() for param in sharded.params], list(sharded.micro_batches), sharded.shard.eps_hat


# ---- failures ---------------------------------------------------------------------------------------------------


def raises(error):
    raise error


def late(bad):
    """Only the last micro-batch is bad."""

    def batches(sharded):
        for k in sharded.micro_batches:
            grads = gradients(0, k, "both")
            yield bad(grads, sharded) if k == sharded.micro_batches[-1] else grads

    return batches


def with_w(change):
    return late(lambda grads, sharded: grads | {"w": change(grads["w"], sharded)})


def without(name):
    return late(lambda grads, sharded: {key: grad for key, grad in grads.items() if key != name})


def good(sharded):
    return (gradients(0, k, "both") for k in sharded.micro_batches)


BAD_GRADS = {
    "shape": with_w(lambda w, _: w[1:]),
    "dtype": with_w(lambda w, _: w.astype("float32")),
    "byte order": with_w(lambda w, _: w.astype(w.dtype.newbyteorder())),
    "integers": with_w(lambda w, _: w.astype(int)),
    "a list": with_w(lambda w, _: w.tolist()),
    "masked": with_w(lambda w, _: np.ma.array(w)),
    "a scalar": with_w(lambda w, _: np.float64(3)),
    "lacking": without("w"),
    "too many": late(lambda grads, _: grads | {"v": grads["w"]}),
    "another nesting": late(lambda grads, _: [grads]),
    "no iterable": lambda sharded: None,
    "not in a list": lambda sharded: gradients(0, 0, "both"),
    "another array's place": late(lambda grads, sharded: grads | {"w": sharded.grads["w"][::-1]}),
    "None here only": lambda sharded: (gradients(0, k, "both") | {"w": None} for k in sharded.micro_batches),
    "None in the last one": with_w(lambda w, _: None),
    "one micro-batch less": lambda sharded: list(good(sharded))[1:],
    "one micro-batch more": lambda sharded: [*good(sharded), gradients(0, 0, "both")],
    "none at all": lambda sharded: [],
    "an exception of the trainer": late(lambda grads, _: raises(ZeroDivisionError("the trainer's own"))),
    "a key": late(lambda grads, _: raises(KeyError("w"))),
    "one that cannot be pickled": late(lambda grads, _: raises(Unpicklable(1, 2))),
    "several": late(lambda grads, _: raises(ExceptionGroup("two", [ValueError("a"), KeyError("b")]))),
    "a key that is a number": late(lambda grads, _: raises(KeyError(3))),
    "a step within": late(lambda grads, sharded: sharded.step(good(sharded))),
    "a save within": late(lambda grads, sharded: sharded.save("nowhere")),
    "a load within": late(lambda grads, sharded: sharded.load("nowhere")),
    "averages within": late(lambda grads, sharded: sharded.averaged().__enter__()),
    "a step of another within": late(lambda grads, sharded: another().step(good(sharded))),
    "a save of another within": late(lambda grads, sharded: another().save("nowhere")),
    "another made within": late(lambda grads, sharded: Sharded(instep.SGD, [np.zeros(3)])),
}


class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__("made of two")


@cache
def another():
    """An optimizer of the same ranks."""
    return Sharded(instep.SGD, arrays(0, "both"), micro_batches=2 * RANKS)


def everything(sharded):
    buffers = [buffer.tobytes() for buffer in sharded._params.values()]
    states = [array.tobytes() for arrays in sharded.shard._states.values() for array in arrays]
    return buffers, states, sharded.shard._snapshot()[2:], sharded.shard.options


def said(error):
    return [type(error).__name__, str(error), getattr(error, "__notes__", [])]


def bad_gradients(bad_rank):
    """What each rank says of each; whether nothing has changed; and then training goes on."""
    bad_rank = int(bad_rank)
    sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=2 * RANKS)
    undisturbed = Sharded(instep.Adam, arrays(0, "both"), micro_batches=2 * RANKS)
    another()
    found = {}
    for name, bad in BAD_GRADS.items():
        before = everything(sharded)
        try:
            sharded.step((bad if bad_rank in (RANK, -1) else good)(sharded))
        except Exception as error:
            found[name] = said(error)
            assert everything(sharded) == before, name
        else:  # None everywhere
            found[name] = None
            undisturbed.step(bad(undisturbed))
        for each in (sharded, undisturbed):
            each.step(good(each))
        assert everything(sharded) == everything(undisturbed), name
    return found


def differing(bad_rank):
    """Options, counts or parameters that are others on one rank."""
    bad_rank = int(bad_rank)
    found = {}

    def lr(sharded):
        sharded.shard.lr = 0.7

    def structure(sharded):
        sharded.shard.amsgrad = True

    def count(sharded):
        sharded.shard.step(sharded._flat.nest.build(sharded._grad_pieces))

    def params(sharded):
        sharded.params["layers"][0]["b"][-1] += 1

    def groups(sharded):
        sharded.shard.groups["w"].lr = 0.25

    def beyond_an_element(sharded):
        sharded.shard.clip_global_norm = 1.0

    def calls(sharded):
        sharded.save("folder")

    for tamper in (lr, structure, count, params, groups, beyond_an_element, calls):
        sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=RANKS, groups={"w": {"lr": 0.5}})
        try:
            if bad_rank == RANK:
                tamper(sharded)
            before = everything(sharded)
            sharded.step(good(sharded))
        except Exception as error:
            found[tamper.__name__] = said(error)
            assert tamper is calls or everything(sharded) == before
    return found


def made_badly(bad_rank):
    bad = int(bad_rank) in (RANK, -1)
    tied = np.zeros(4)
    here = {
        "a bad option": (dict(beta1=1.5), {}),
        "an unknown option": (dict(momentum=0.5), {}),
        "another lr": (dict(lr=0.5), dict(lr=0.25)),
        "micro_batches of another type": (dict(micro_batches=2.0), {}),
        "no micro-batches": (dict(micro_batches=0), {}),
        "other micro_batches": (dict(micro_batches=2 * RANKS), {}),
        "another shape": (dict(params=[np.zeros(3)]), {}),
        "another dtype": (dict(params=[np.zeros(4, "float32")]), {}),
        "integers": (dict(params=[np.zeros(4, int)]), {}),
        "swapped": (dict(params=[np.zeros(4, np.dtype("float64").newbyteorder())]), {}),
        "other places": (dict(params={"w": np.zeros(4)}), {}),
        "a list": (dict(params=[[0.0, 1.0]]), {}),
        "nothing": (dict(params=[]), {}),
        "tied": (dict(params=[tied, tied]), dict(params=[tied, tied.copy()])),
        "overlapping": (dict(params=[tied[:3], tied[2:]]), dict(params=[tied[:3], tied[2:].copy()])),
        "interleaved": (dict(params=[tied[::2], tied[1::2]]), dict(params=[tied[::2], tied[1::2].copy()])),
        "no optimizer": (dict(make=lambda params: params), {}),
        "another rule": (dict(make=instep.SGD), {}),
        "other groups": (dict(groups={"*": {"lr": 0.5}}), {}),
        "a norm": (dict(clip_norm=1.0), {}),
        "a norm in a group": (dict(groups={"*": {"clip_norm": 1.0}}), {}),
        "a storage": (dict(params=[np.zeros(4, "float32")], state_dtype="8bit"), {}),
    }
    found = {}
    for name, (wrong, right) in here.items():
        given = dict(make=instep.Adam, params=[np.zeros(4)]) | (wrong if bad else right)
        try:
            Sharded(given.pop("make"), given.pop("params"), **given)
        except Exception as error:
            found[name] = said(error)
        else:
            found[name] = None
    return found


def dies(how):
    """The last rank ends in the middle; the others would wait for it."""

    def exits():
        yield from good(sharded)
        sys.exit(0)

    sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=RANKS)
    for step in range(1000):
        if step == 3 and RANK == RANKS - 1:
            if how == "exit without an error":
                sharded.step(exits())
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"exception": RuntimeError, "Ctrl-C": KeyboardInterrupt, "exit": SystemExit}[how]("at step 3")
        sharded.step(good(sharded))


# ---- checkpoints ------------------------------------------------------------------------------------------------


def saves(folder):
    """After two steps; then two steps on, which others must reach from the file."""
    found = []
    for number, (rule, options) in enumerate(situations().values()):
        sharded = Sharded(CLASSES[rule], arrays(0, "both"), micro_batches=MICRO_BATCHES, **options)
        train(sharded, range(2))
        sharded.save(Path(folder) / str(number))
        if RANK == 0:
            np.save(Path(folder) / f"{number}.npy", np.array(leaves(sharded.params), object))
        train(sharded, range(2, 4))
        found.append(sharded_digest(sharded))
    return found


def loads(folder):
    found = []
    for number, (rule, _) in enumerate(situations().values()):
        saved = iter(np.load(Path(folder) / f"{number}.npy", allow_pickle=True))
        params = nesting(lambda shape: np.asarray(next(saved)))  # noqa: B023
        sharded = Sharded(CLASSES[rule], params, micro_batches=MICRO_BATCHES)
        sharded.load(Path(folder) / str(number))
        train(sharded, range(2, 4))
        found.append(sharded_digest(sharded))
    return found


def reshards(folder):
    """On 4 ranks: save on all, go on with 3 of them, then 2, then 1, then all; the state by then."""
    found = []
    state = None
    for ranks in (4, 3, 2, 1, 4):
        comm = MPI.COMM_WORLD.Split(0 if ranks > RANK else MPI.UNDEFINED)
        if comm != MPI.COMM_NULL:
            sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=ranks, comm=comm)
            if state is None:
                sharded.step(good(sharded))
            else:
                sharded.load(folder)
            hashed = [sha256(array.tobytes()).hexdigest() for array in whole_states(sharded)]
            state = sharded_digest(sharded).split()[1:], hashed
            found.append(state)
            sharded.save(folder)
            if comm.rank == 0:
                assert len(list(Path(folder).iterdir())) == ranks + 1
        MPI.COMM_WORLD.Barrier()
        state = MPI.COMM_WORLD.bcast(state)
    return found


def tried(call, folder):
    try:
        call(folder)
    except Exception as error:
        return said(error)
    return None


def damaged(folder, kinds):
    """Load after each of the kinds of damage, done by rank 0, to a checkpoint that is sound before."""
    folder = Path(folder)
    sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=MICRO_BATCHES)
    train(sharded, range(2))
    sharded.save(folder)
    other = folder.with_name("other")
    train(sharded, range(2, 3))
    sharded.save(other)
    before = everything(sharded)
    found = {}
    for kind in kinds.split(","):
        if RANK == 0:
            undo = damage(kind, folder, other)
        MPI.COMM_WORLD.Barrier()
        found[kind] = tried(sharded.load, folder)
        assert everything(sharded) == before, kind
        MPI.COMM_WORLD.Barrier()
        if RANK == 0:
            undo()
    MPI.COMM_WORLD.Barrier()
    sharded.load(folder)
    assert everything(sharded) != before
    for name, cls, params in (
        ("another rule", instep.SGD, arrays(0, "both")),
        ("another shape", instep.Adam, arrays(0, "both") | {"w": np.zeros((11, 37))}),
        ("another dtype", instep.Adam, arrays(0, "float64")),
        ("another place", instep.Adam, {"v": np.zeros(3)}),
    ):
        found[name] = tried(Sharded(cls, params).load, folder)
    found["no folder"] = tried(sharded.load, folder / "absent")
    return found


def damage(kind, folder, other):
    """Do it, and return what undoes it."""
    manifest, shards = folder / "manifest.json", sorted(folder.glob("*.shard"))
    path = manifest if kind.startswith("manifest") else shards[-1]
    content = path.read_bytes()
    kind = kind.partition(" ")[2]
    if kind == "is absent":
        path.unlink()
    elif kind == "is cut":
        path.write_bytes(content[:-1])
    elif kind == "is empty":
        path.write_bytes(b"")
    elif kind == "is longer":
        path.write_bytes(content + b" ")
    elif kind == "is another's":
        path.write_bytes(sorted(other.glob("*.shard"))[-1].read_bytes())
    elif kind.startswith("bit"):
        at = int(float(kind.split()[1]) * (len(content) - 1))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    else:
        rewrite(path, kind)
    return partial(path.write_bytes, content)


def rewrite(path, kind):
    """A manifest with the right checksum and the wrong content."""
    text = json.loads(path.read_bytes())
    del text["sha256"], text["instep"]
    first = next(iter(text["arrays"].values()))
    if kind == "names a file elsewhere":
        text["shards"][0]["file"] = "../" + text["shards"][0]["file"]
    if kind == "moves a cut":
        text["cuts"]["float64"][1] += 8
    if kind == "turns cuts round":
        text["cuts"]["float64"].reverse()
    if kind == "moves an array":
        first["offset"] += 8
    if kind == "lacks a shard":
        text["shards"].pop()
    if kind == "lacks an option":
        text["options"].popitem()
    if kind == "has another option":
        text["options"]["lr"] = 0.5
    if kind == "has another count":
        text["step_count"] += 1
    if kind == "has a negative size":
        first["shape"][0] = -1
    if kind == "is no dict":
        text["arrays"] = [1]
    path.write_bytes(checkpoint._spell(text))


def save_is_disturbed(folder, bad_rank):
    """A save that fails on one rank, or when its manifest is written; the old checkpoint is still there."""
    folder = Path(folder)
    sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=RANKS)
    sharded.step(good(sharded))
    sharded.save(folder)
    old = everything(sharded)
    names = sorted(path.name for path in folder.iterdir())
    sharded.step(good(sharded))
    found = {}
    for where, module, at in (("a shard", file, int(bad_rank)), ("the manifest", checkpoint, 0)):
        original = module.replace_file
        if at == RANK:
            module.replace_file = lambda path, chunks: raises(OSError(28, "No space left on device", path))
        found[where] = tried(sharded.save, folder)
        module.replace_file = original
        if where == "a shard":
            assert sorted(path.name for path in folder.iterdir()) == names
        MPI.COMM_WORLD.Barrier()
        again = Sharded(instep.Adam, sharded.params, micro_batches=RANKS)
        again.load(folder)
        assert everything(again)[1:] == old[1:]
    sharded.save(folder)
    assert len(list(folder.iterdir())) == RANKS + 1
    again.load(folder)
    assert everything(again)[1:] == everything(sharded)[1:]
    return found


def killed_in_a_save(folder, call):
    """All ranks end after so many calls that write or remove; what is there must be the old or the new state."""
    folder = Path(folder)
    sharded = Sharded(instep.Adam, arrays(0, "both"), micro_batches=RANKS)
    sharded.step(good(sharded))
    if not (folder / "manifest.json").exists():
        sharded.save(folder)
        return "saved"
    sharded.load(folder)
    count = sharded.step_count
    sharded.step(good(sharded))
    if RANK == 0:
        calls = iter(range(int(call), -1, -1))
        for name in ("open", "write", "fsync", "replace", "unlink"):
            original = getattr(os, name)

            def counted(*arguments, original=original, **more):
                if next(calls) == 0:
                    os._exit(9)
                return original(*arguments, **more)

            setattr(os, name, counted)
    sharded.save(folder)
    return count


def main():
    name, *arguments = sys.argv[1:]
    found = MPI.COMM_WORLD.gather(globals()[name](*arguments))
    if RANK == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
