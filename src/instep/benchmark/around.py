"""What a trainer does around a step: in the step's own pass, in passes of NumPy before and after it, and by torch.

All contenders walk the same arrays, instep's with everything around it the same memory.  Of the others those who write
to the gradient have one of their own, and those whose parameter has sixteen bits widen it into an array that NumPy's
passes keep, so that nothing is allocated in a step that need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

import instep

from .. import _core
from ..arithmetic import Array
from ..dialects import family
from .measure import Contender, python_steps
from .peers import FUSED, torch_optimizer, torch_threads
from .work import Work, dialect, make_work

PLAIN = "plain"
OURS, PASSES, TORCH = "instep", "a plain step and NumPy's passes", "torch"
DECAY, SCALE, BOUND = 0.999, 0.5, 1.0

Step = Callable[[], Any]


class Arrays:
    """The arrays of one size: in float32, and what has fewer bits."""

    def __init__(self, kind: str, size: int) -> None:
        bfloat16 = np.dtype(import_module("ml_dtypes").bfloat16)
        self.work = make_work(kind, [(size,)])
        (self.param,), (self.grad,) = self.work.params, self.work.grads
        self.own_grad = self.grad.copy()
        self.average, self.wide, self.scratch = (self.param.copy() for _ in range(3))
        self.low = np.zeros(size, np.uint16)
        self.params = {"float32": self.param, "bfloat16": self.param.astype(bfloat16)}
        self.grads = {
            "float32": self.grad,
            "bfloat16": self.grad.astype(bfloat16),
            "float16": self.grad.astype(np.float16),
        }
        self.random = np.random.default_rng(0)
        # What a step of instep may have beside the states of its rule.
        self.beside = {"param_avg": self.average, "param_low": self.low, "param_master": self.wide}

    def plain(self, param: Array, grad: Array) -> Step:
        """A step of instep in float32 with nothing around it."""
        return self.step(param, grad, {})

    def step(self, param: Array, grad: Array, options: dict[str, Any]) -> Step:
        """A step of instep, whose states are those of all others where they have the same type."""
        step: Step = self.bound(param, grad, options, self.beside).step
        return step

    def bound(self, param: Array, grad: Array, options: dict[str, Any], beside: dict[str, Array]) -> Any:
        """An optimizer with these arrays, of those that are beside the states of a rule with the ones that it has."""
        optimizer = family()[self.work.kind]([param], **self.work.options.values() | options)
        shared = {name: [array] for name, array in beside.items()}
        if "state_dtype" not in options:
            shared |= self.work.states
        optimizer._adopt(
            optimizer._options, optimizer._states | {k: shared[k] for k in optimizer._states if k in shared}
        )
        optimizer.bind([grad])
        return optimizer

    def shared(self, extra: Extra, param: Array, grad: Array, beside: Array) -> tuple[Step, Callable[[], None]]:
        """The step of an extra over memory that all extras have, and what first gives that the numbers it begins with.

        Each of the three holds as many float32 as there are elements, and whatever takes fewer bytes. The float32 of a
        master is what a step walks, and the parameter, its copy, stands beside.
        """
        values = {"param": self.params[extra.param], "grad": gradient(self, extra)} | self.beside
        memory = dict.fromkeys(values, beside) | {"param": param, "grad": grad}
        if extra.options.get("master") == "float32":
            memory |= {"param": beside, "param_master": param}
        used = {name: memory[name].view(array.dtype)[: array.size] for name, array in values.items()}
        optimizer = self.bound(used["param"], used["grad"], extra.options, used)

        def begin() -> None:
            for name in ("param", "grad", *optimizer._states):
                if name in used:
                    used[name][...] = values[name]

        return optimizer.step, begin

    def in_torch(self, param: Array, grad: Array, **options: Any) -> tuple[Any, Any, Any]:
        """The optimizer of torch on these states, as fast as it has it, with its parameter and gradient."""
        way: dict[str, Any] = {"fused": True} if self.work.kind in FUSED else {"foreach": True}
        work = Work(self.work.kind, self.work.options, [param], [grad], self.work.states)
        optimizer = torch_optimizer(work, **way, **options)
        (parameter,) = optimizer.param_groups[0]["params"]
        return optimizer, parameter, parameter.grad


def tensor(array: Array) -> Any:
    """The same memory as a tensor, which NumPy's bfloat16 becomes by way of integers."""
    torch: Any = import_module("torch")

    return (
        torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if array.dtype.name == "bfloat16"
        else (torch.from_numpy(array))
    )


# ---- NumPy's passes around a plain step -------------------------------------------------------------------------


def averaged_in_passes(of: Arrays) -> Step:
    """The average of the parameters, and a gradient of zeros."""
    plain, scratch = of.plain(of.param, of.own_grad), of.scratch

    def step() -> None:
        plain()
        np.subtract(of.param, of.average, out=scratch)
        np.multiply(scratch, np.float32(1 - DECAY), out=scratch)
        np.add(of.average, scratch, out=of.average)
        of.own_grad.fill(0)

    return step


def widened_in_passes(dtype: str, of: Arrays) -> Step:
    """A gradient of fewer bits."""
    plain = of.plain(of.param, of.own_grad)

    def step() -> None:
        of.own_grad[...] = of.grads[dtype]
        plain()

    return step


def rounded_in_passes(of: Arrays) -> Step:
    """A parameter in bfloat16, rounded stochastically."""
    plain, bits = of.plain(of.scratch, of.own_grad), of.scratch.view(np.uint32)
    stored = of.params["bfloat16"].view(np.uint16)

    def step() -> None:
        of.own_grad[...] = of.grads["bfloat16"]
        np.left_shift(stored, np.uint32(16), out=bits)
        plain()
        np.add(bits, of.random.integers(1 << 16, size=bits.size, dtype=np.uint16), out=bits)
        np.right_shift(bits, np.uint32(16), out=bits)
        stored[...] = bits

    return step


def split_in_passes(of: Arrays) -> Step:
    """A parameter in two halves."""
    plain, bits = of.plain(of.scratch, of.own_grad), of.scratch.view(np.uint32)
    stored = of.params["bfloat16"].view(np.uint16)

    def step() -> None:
        of.own_grad[...] = of.grads["bfloat16"]
        np.left_shift(stored, np.uint32(16), out=bits)
        np.add(bits.view(np.int32), of.low.view(np.int16), out=bits.view(np.int32))
        plain()
        of.low[...] = bits
        np.add(bits, np.uint32(0x8000), out=bits)
        np.right_shift(bits, np.uint32(16), out=bits)
        stored[...] = bits

    return step


def copied_in_passes(of: Arrays) -> Step:
    """A parameter in float32 and its copy in bfloat16."""
    plain, param = of.plain(of.wide, of.own_grad), of.params["bfloat16"]

    def step() -> None:
        of.own_grad[...] = of.grads["bfloat16"]
        plain()
        param[...] = of.wide

    return step


def clipped_in_passes(of: Arrays, *, skips: bool = False) -> Step:
    """The norm of all gradients, and the gradient scaled by it, if it is finite where it has to be."""
    plain = of.plain(of.param, of.own_grad)

    def step() -> None:
        norm = np.sqrt(np.vdot(of.grad, of.grad))
        if skips and not np.isfinite(norm):
            return
        np.multiply(of.grad, min(np.float32(BOUND) / norm, np.float32(1)), out=of.own_grad)
        plain()

    return step


def skipped_in_passes(of: Arrays) -> Step:
    """A look at every element of the gradient."""
    plain, finite = of.plain(of.param, of.grad), np.empty(of.grad.shape, np.bool_)

    def step() -> None:
        if np.isfinite(of.grad, out=finite).all():
            plain()

    return step


def changed_in_a_pass(change: Callable[..., Any], by: tuple[Any, ...], of: Arrays) -> Step:
    """A function of NumPy makes another gradient of the gradient."""
    plain = of.plain(of.param, of.own_grad)

    def step() -> None:
        change(of.grad, *by, out=of.own_grad)
        plain()

    return step


# ---- torch ------------------------------------------------------------------------------------------------------


def averaged_by_torch(of: Arrays) -> Step:
    """As ``AveragedModel`` with ``get_ema_multi_avg_fn`` does it."""
    torch: Any = import_module("torch")
    optimizer, param, grad = of.in_torch(of.param, of.own_grad)
    average = tensor(of.average)

    def step() -> None:
        optimizer.step()
        torch._foreach_lerp_([average], [param.detach()], 1 - DECAY)
        grad.zero_()

    return step


def widened_by_torch(dtype: str, of: Arrays) -> Step:
    """A gradient of fewer bits, which torch does not take beside a float32 parameter."""
    optimizer, _, grad = of.in_torch(of.param, of.own_grad)
    narrow = tensor(of.grads[dtype])

    def step() -> None:
        grad.copy_(narrow)
        optimizer.step()

    return step


def copied_by_torch(of: Arrays) -> Step:
    """A parameter in float32 and its copy in bfloat16."""
    optimizer, param, grad = of.in_torch(of.wide, of.own_grad)
    narrow, copy = tensor(of.grads["bfloat16"]), tensor(of.params["bfloat16"])

    def step() -> None:
        grad.copy_(narrow)
        optimizer.step()
        copy.copy_(param.detach())

    return step


def clipped_by_torch(name: str, of: Arrays, *, skips: bool = False) -> Step:
    """By a function of ``torch.nn.utils``, and only if the norm that it returns is finite where that has to be."""
    torch: Any = import_module("torch")
    clip = getattr(torch.nn.utils, name)
    optimizer, param, _ = of.in_torch(of.param, of.own_grad)

    def step() -> None:
        norm = clip([param], BOUND)
        if not skips or torch.isfinite(norm):
            optimizer.step()

    return step


def skipped_by_torch(of: Arrays) -> Step:
    """A look at every element of the gradient."""
    torch: Any = import_module("torch")
    optimizer, _, grad = of.in_torch(of.param, of.grad)

    def step() -> None:
        if torch.isfinite(grad).all():
            optimizer.step()

    return step


def scaled_by_torch(of: Arrays) -> Step:
    """A multiplied gradient."""
    optimizer, _, grad = of.in_torch(of.param, of.own_grad)

    def step() -> None:
        grad.mul_(SCALE)
        optimizer.step()

    return step


def plain_torch(of: Arrays, **options: Any) -> Step:
    """A step, with options of torch's optimizer."""
    step: Step = of.in_torch(of.param, of.grad, **options)[0].step
    return step


# ---- all of them ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extra:
    """Something around a step: instep's options and types for it, and how the others do it, who can.

    `in_memory` and `in_cache` are how many times as long as a plain step it may take.
    """

    name: str
    in_memory: float | None = None
    in_cache: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    param: str = "float32"
    grad: str = "float32"
    passes: Callable[[Arrays], Step] | None = None
    torch: Callable[[Arrays], Step] | None = None
    of_states: bool = False  # whether it is about the states of a rule


EXTRAS = (
    Extra(PLAIN, torch=plain_torch),
    Extra(
        "average and zeroed gradient", 1.45, None, {"average_decay": DECAY, "zero_grads": True},
        passes=averaged_in_passes, torch=averaged_by_torch,
    ),
    Extra(
        "bfloat16 gradient", 0.90, 1.5, grad="bfloat16",
        passes=partial(widened_in_passes, "bfloat16"), torch=partial(widened_by_torch, "bfloat16"),
    ),
    Extra(
        "float16 gradient", 0.90, 1.5, grad="float16",
        passes=partial(widened_in_passes, "float16"), torch=partial(widened_by_torch, "float16"),
    ),
    Extra(
        "bfloat16 parameter, stochastic, and gradient", 0.80, 1.5, param="bfloat16", grad="bfloat16",
        passes=rounded_in_passes,
    ),
    Extra(
        "split master, bfloat16 gradient", 1.00, 1.5, {"master": "split"}, "bfloat16", "bfloat16",
        passes=split_in_passes,
    ),
    Extra(
        "float32 master, bfloat16 copy and gradient", None, 1.5, {"master": "float32"}, "bfloat16", "bfloat16",
        passes=copied_in_passes, torch=copied_by_torch,
    ),
    Extra("8-bit states", 0.90, 1.5, {"state_dtype": "8bit"}, of_states=True),
    Extra("bfloat16 states", None, 1.5, {"state_dtype": "bfloat16"}, of_states=True),
    Extra(
        "clipped by the global norm", 1.36, None, {"clip_global_norm": BOUND},
        passes=clipped_in_passes, torch=partial(clipped_by_torch, "clip_grad_norm_"),
    ),
    Extra(
        "skipped if not finite", 1.36, None, {"skip_nonfinite": True},
        passes=skipped_in_passes, torch=skipped_by_torch,
    ),
    Extra(
        "clipped by the global norm, skipped if not finite", 1.36, None,
        {"clip_global_norm": BOUND, "skip_nonfinite": True},
        passes=partial(clipped_in_passes, skips=True),
        torch=partial(clipped_by_torch, "clip_grad_norm_", skips=True),
    ),
    Extra(
        "clipped by value", 1.03, None, {"clip_value": BOUND},
        passes=partial(changed_in_a_pass, np.clip, (-BOUND, BOUND)),
        torch=partial(clipped_by_torch, "clip_grad_value_"),
    ),
    Extra(
        "scaled", 1.03, None, {"grad_scale": SCALE},
        passes=partial(changed_in_a_pass, np.multiply, (np.float32(SCALE),)), torch=scaled_by_torch,
    ),
    Extra(
        "maximized", 1.03, None, {"maximize": True},
        passes=partial(changed_in_a_pass, np.negative, ()), torch=partial(plain_torch, maximize=True),
    ),
)  # fmt: skip


def extras_of(kind: str) -> list[Extra]:
    """Those that this rule can have."""
    return [extra for extra in EXTRAS if dialect(kind).states or not extra.of_states]


def called(extra: str, way: str) -> str:
    """A contender's name."""
    return f"{way}: {extra}"


def contenders(kind: str, size: int, threads: int) -> Iterator[Contender]:
    """Every extra in instep's pass, with so many threads, over the same memory: no one has luckier pages."""
    of = Arrays(kind, size)
    memory = [np.ones(size, np.float32) for _ in range(3)]
    for extra in extras_of(kind):
        step, begin = of.shared(extra, *memory)

        def prepare(begin: Callable[[], None] = begin) -> None:
            _core.set_num_threads(threads)
            begin()

        yield Contender(called(extra.name, OURS), threads, python_steps(step), prepare)


def others(kind: str, size: int, threads: int, with_torch: bool) -> Iterator[Contender]:
    """The others beside a plain step of instep; NumPy's passes have one thread."""
    of = Arrays(kind, size)
    ours, torchs = partial(_core.set_num_threads, threads), partial(torch_threads, threads)
    yield Contender(called(PLAIN, OURS), threads, python_steps(of.plain(of.param, of.grad)), ours)
    for extra in extras_of(kind):
        if extra.passes:
            yield Contender(called(extra.name, PASSES), threads, python_steps(extra.passes(of)), ours)
        if extra.torch and with_torch:
            yield Contender(called(extra.name, TORCH), threads, python_steps(extra.torch(of)), torchs)


def gradient(of: Arrays, extra: Extra) -> Array:
    """The gradient that instep gets: one of its own if it is written to."""
    return of.own_grad if "zero_grads" in extra.options else of.grads[extra.grad]


# ---- some rows of a table ---------------------------------------------------------------------------------------

TABLE = (50_000, 64)
TOUCHED = (64, 256, 1024, 4096)
JUDGED, MOST_SECONDS = 256, 60e-6
ROWS, GATHERED, DENSE = "instep, Rows", "gathered, stepped, scattered", "instep, all rows, zeros for the rest"
TORCH_DENSE, TORCH_SPARSE = "torch, all rows, zeros for the rest", "torch.optim.SparseAdam"


def contenders_over_rows(kind: str, touched: int, with_torch: bool) -> Iterator[Contender]:
    """A step of so many rows of a table, each once, in no order; one thread."""
    work = make_work(kind, [TABLE])
    (table,), (grad,) = work.params, work.grads
    states = {name: array for name, (array,) in work.states.items()}
    random = np.random.default_rng(0)
    indices = random.permutation(TABLE[0])[:touched]
    values = grad[indices].copy()
    grad[...] = 0
    grad[indices] = values
    ours, torchs = partial(_core.set_num_threads, 1), partial(torch_threads, 1)

    optimizer = family()[kind]([table], **work.options.values())
    optimizer._adopt(optimizer._options, work.states)
    rows = [_core.Rows(indices, values)]
    yield Contender(ROWS, 1, python_steps(partial(optimizer.step, rows)), ours)
    function, options = getattr(instep, kind), work.options.formula()

    def gathered() -> None:
        param, of_states = table[indices], {name: state[indices] for name, state in states.items()}
        function(param, values, **of_states, step_count=1, **options)
        table[indices] = param
        for name, state in of_states.items():
            states[name][indices] = state

    yield Contender(GATHERED, 1, python_steps(gathered), ours)
    yield Contender(DENSE, 1, python_steps(partial(optimizer.step, [grad])), ours)
    if with_torch:
        yield Contender(TORCH_DENSE, 1, python_steps(torch_optimizer(work, foreach=True).step), torchs)
        yield Contender(TORCH_SPARSE, 1, python_steps(sparse_adam(table, indices, values)), torchs)


def sparse_adam(table: Array, indices: Array, values: Array) -> Step:
    """Of torch's optimizers the one that is made for rows."""
    torch: Any = import_module("torch")
    param = torch.nn.Parameter(torch.from_numpy(table))
    param.grad = torch.sparse_coo_tensor(
        torch.from_numpy(indices)[None], torch.from_numpy(values), TABLE, check_invariants=False
    )
    step: Step = torch.optim.SparseAdam([param], lr=1e-4).step
    return step


def is_possible() -> bool:
    """Whether NumPy has a bfloat16 here."""
    return find_spec("ml_dtypes") is not None
