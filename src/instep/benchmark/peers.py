"""The contenders: one RMSprop, as each library takes it fastest.

The dialect is torch's: ``eps`` outside the root, ``rho`` 0.99.  Each contender is started on arrays that it updates in
place, where its library can; the arrays are shared, so that all of them walk the same pages.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, cast

import numpy as np

from .. import optimizers, reference
from .._core import Options, set_num_threads
from ..arithmetic import Array
from ..rules.rmsprop import RMSprop

LR, RHO, EPS = 1e-2, 0.99, 1e-8
DIALECT = Options("rmsprop").replace({"lr": LR, "rho": RHO, "eps": EPS}, (np.float32, np.float64))
Arrays = list[Array]


@dataclass(frozen=True)
class Started:
    """A contender on its arrays: `step` once, and where its parameters are now."""

    step: Callable[[], Any]
    params: Callable[[], Arrays]


@dataclass(frozen=True)
class Peer:
    """A way to take the step.

    `start` gets params, grads, square_avgs and the number of threads; `use_threads` comes before every measurement.
    Without it the peer is `serial`, or it chose its threads when it was loaded.
    """

    name: str
    start: Callable[[Arrays, Arrays, Arrays, int], Started]
    needs: tuple[str, ...] = ()
    use_threads: Callable[[int], None] | None = None
    serial: bool = False
    compiles: bool = False
    another_rule: str = ""

    @property
    def missing(self) -> list[str]:
        """What it needs and does not find."""
        return [module for module in self.needs if find_spec(module) is None]

    def thread_counts(self, most: int) -> list[int]:
        """The numbers of threads to measure it with."""
        if self.serial:
            return [1]
        return sorted({1, most}) if self.use_threads else [most]


class WrongResult(Exception):
    """A contender computes something else."""


def cross_check(peer: Peer, shapes: list[tuple[int, ...]], threads: int, steps: int = 5) -> None:
    """Step from zero with gradients from 1e-8 to 1, where `eps` counts as much as `rho`; compare with the twin."""
    generator = np.random.default_rng(0)
    grads = [(10 ** generator.uniform(-8, 0, shape)).astype(np.float32) for shape in shapes]
    expected = [np.zeros_like(grad) for grad in grads]
    for param, grad in zip(expected, grads, strict=True):
        square_avg = np.zeros_like(grad)
        for _ in range(steps):
            reference.rmsprop(param, grad, square_avg, lr=LR, rho=RHO, eps=EPS)

    if peer.use_threads:
        peer.use_threads(threads)
    zeros = [np.zeros_like(grad) for grad in grads]
    started = peer.start(zeros, [grad.copy() for grad in grads], [np.zeros_like(grad) for grad in grads], threads)
    for _ in range(steps):
        started.step()
    worst = max(
        float(np.max(np.abs(param.reshape(-1) - twin.reshape(-1)) / np.abs(twin.reshape(-1))))
        for param, twin in zip(started.params(), expected, strict=True)
    )
    if not worst < 1e-5:
        raise WrongResult(f"{peer.name} is off by {worst:.1e} of the distance moved after {steps} steps")


# ---- instep -----------------------------------------------------------------------------------------------------


def start_instep(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """`step(grads)`."""
    optimizer = instep_optimizer(params, square_avgs)
    return Started(partial(optimizer.step, grads), lambda: params)


def start_bound(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """`bind(grads)` once, then `step()`."""
    optimizer = instep_optimizer(params, square_avgs)
    optimizer.bind(grads)
    return Started(optimizer.step, lambda: params)


def instep_optimizer(params: Arrays, square_avgs: Arrays) -> optimizers.Optimizer:
    """An optimizer in the dialect, on these states."""
    optimizer = RMSprop(params, lr=LR, rho=RHO, eps=EPS)
    optimizer._adopt(optimizer._options, {"square_avg": square_avgs})
    return optimizer


# ---- NumPy and Python -------------------------------------------------------------------------------------------


def start_python(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """A loop over lists of floats."""
    p, g, v = ([x for array in arrays for x in array.reshape(-1).tolist()] for arrays in (params, grads, square_avgs))
    offsets = np.cumsum([param.size for param in params])[:-1]

    def step() -> None:
        for i in range(len(p)):
            v[i] = RHO * v[i] + (1 - RHO) * g[i] * g[i]
            p[i] -= LR * g[i] / (math.sqrt(v[i]) + EPS)

    return Started(step, lambda: np.split(np.array(p), offsets))


def start_tutorial(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """As a tutorial writes it."""
    square_avg = [array.copy() for array in square_avgs]

    def step() -> None:
        for k in range(len(params)):
            square_avg[k] = RHO * square_avg[k] + (1 - RHO) * grads[k] ** 2
            params[k] -= LR * grads[k] / (np.sqrt(square_avg[k]) + EPS)

    return Started(step, lambda: params)


def start_out(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """NumPy with `out=` and scratch that is kept."""
    size = max(param.size for param in params)
    scratch = np.empty(size, params[0].dtype)
    arrays = [
        (param, grad, square_avg, scratch[: param.size].reshape(param.shape))
        for param, grad, square_avg in zip(params, grads, square_avgs, strict=True)
    ]

    def step() -> None:
        for p, g, v, s in arrays:
            np.multiply(g, g, out=s)
            np.multiply(s, 1 - RHO, out=s)
            np.multiply(v, RHO, out=v)
            np.add(v, s, out=v)
            np.sqrt(v, out=s)
            np.add(s, EPS, out=s)
            np.divide(g, s, out=s)
            np.multiply(s, LR, out=s)
            np.subtract(p, s, out=p)

    return Started(step, lambda: params)


# ---- compilers of expressions and loops -------------------------------------------------------------------------


def start_numexpr(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """Two expressions, compiled beforehand; `float` is numexpr's word for float32."""
    numexpr: Any = import_module("numexpr")

    average = numexpr.NumExpr("rho * v + rest * g * g", [(name, float) for name in ("v", "g", "rho", "rest")])
    update = numexpr.NumExpr("p - lr * g / (sqrt(v) + eps)", [(name, float) for name in ("p", "g", "v", "lr", "eps")])
    rho, rest, lr, eps = (np.array(x, np.float32) for x in (RHO, 1 - RHO, LR, EPS))

    def step() -> None:
        for p, g, v in zip(params, grads, square_avgs, strict=True):
            average(v, g, rho, rest, out=v, ex_uses_vml=False)
            update(p, g, v, lr, eps, out=p, ex_uses_vml=False)

    return Started(step, lambda: params)


def numexpr_threads(threads: int) -> None:
    """Those of its pool."""
    numexpr: Any = import_module("numexpr")

    numexpr.set_num_threads(threads)


@cache
def numba_loop(parallel: bool, error_model: str) -> Callable[..., None]:
    """The jitted loop over one array."""
    numba: Any = import_module("numba")

    def loop(p: Array, g: Array, v: Array, lr: Any, rho: Any, rest: Any, eps: Any) -> None:
        for i in numba.prange(p.size):
            v[i] = rho * v[i] + rest * (g[i] * g[i])
            p[i] -= lr * (g[i] / (np.sqrt(v[i]) + eps))

    return cast(Callable[..., None], numba.njit(parallel=parallel, error_model=error_model)(loop))


@cache
def numba_loops(loop: Callable[..., None]) -> Callable[..., None]:
    """The jitted loop over lists of arrays."""
    numba: Any = import_module("numba")

    def loops(ps: Arrays, gs: Arrays, vs: Arrays, lr: Any, rho: Any, rest: Any, eps: Any) -> None:
        for k in range(len(ps)):
            loop(ps[k], gs[k], vs[k], lr, rho, rest, eps)

    return cast(Callable[..., None], numba.njit(error_model="numpy")(loops))


NUMBA_SCALARS = tuple(np.float32(x) for x in (LR, RHO, 1 - RHO, EPS))


def start_numba(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """One jitted loop, called for each array: as it is commonly written."""
    loop = numba_loop(parallel=threads > 1, error_model="python")
    arrays = flat(params, grads, square_avgs)

    def step() -> None:
        for p, g, v in arrays:
            loop(p, g, v, *NUMBA_SCALARS)

    return Started(step, lambda: params)


def start_tuned_numba(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """No check for a division by zero, which keeps the loop from being vectorized, and one call for all arrays."""
    typed: Any = import_module("numba.typed")

    loop = numba_loop(parallel=threads > 1, error_model="numpy")
    arrays = flat(params, grads, square_avgs)
    if len(arrays) == 1:
        (p, g, v), *_ = arrays
        return Started(partial(loop, p, g, v, *NUMBA_SCALARS), lambda: params)

    loops = numba_loops(loop)
    ps, gs, vs = (typed.List(column) for column in zip(*arrays, strict=True))
    return Started(partial(loops, ps, gs, vs, *NUMBA_SCALARS), lambda: params)


def numba_threads(threads: int) -> None:
    """Of those that numba started with."""
    numba: Any = import_module("numba")

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def flat(*groups: Arrays) -> list[tuple[Array, ...]]:
    """Every array as one of one dimension, which shares its memory."""
    return list(zip(*[[array.reshape(-1) for array in group] for group in groups], strict=True))


# ---- torch ------------------------------------------------------------------------------------------------------


def torch_parameters(params: Arrays, grads: Arrays) -> list[Any]:
    """Parameters over the same memory."""
    torch: Any = import_module("torch")

    parameters = [torch.nn.Parameter(torch.from_numpy(param)) for param in params]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = torch.from_numpy(grad)
    return parameters


def torch_rmsprop(params: Arrays, grads: Arrays, square_avgs: Arrays, foreach: bool) -> Any:
    """`torch.optim.RMSprop` on these states."""
    torch: Any = import_module("torch")

    parameters = torch_parameters(params, grads)
    optimizer = torch.optim.RMSprop(parameters, lr=LR, alpha=RHO, eps=EPS, foreach=foreach)
    for parameter, square_avg in zip(parameters, square_avgs, strict=True):
        optimizer.state[parameter] = {"step": torch.tensor(0.0), "square_avg": torch.from_numpy(square_avg)}
    return optimizer


def start_torch(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """Its default on a CPU: a loop over the parameters."""
    return Started(torch_rmsprop(params, grads, square_avgs, foreach=False).step, lambda: params)


def start_foreach(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """Lists of tensors in one call."""
    return Started(torch_rmsprop(params, grads, square_avgs, foreach=True).step, lambda: params)


def start_compiled(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """`torch.compile` of the step, without autograd's guards.

    What was compiled before is forgotten: past eight variants of a function the compiler would quietly give up.
    """
    torch: Any = import_module("torch")

    torch._dynamo.reset()
    torch._logging.set_logs(dynamo=logging.ERROR)
    step = torch.compile(torch_rmsprop(params, grads, square_avgs, foreach=False).step)
    return Started(step, lambda: params)


def start_fused_adagrad(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """What torch offers fused that moves the same bytes."""
    torch: Any = import_module("torch")

    return Started(torch.optim.Adagrad(torch_parameters(params, grads), lr=LR, fused=True).step, lambda: params)


def start_fused_adam(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """What torch offers fused, with one state more."""
    torch: Any = import_module("torch")

    return Started(torch.optim.Adam(torch_parameters(params, grads), lr=LR, fused=True).step, lambda: params)


def torch_threads(threads: int) -> None:
    """Within an operation."""
    torch: Any = import_module("torch")

    torch.set_num_threads(threads)


# ---- optax ------------------------------------------------------------------------------------------------------


def start_optax(params: Arrays, grads: Arrays, square_avgs: Arrays, threads: int) -> Started:
    """Update and application jitted as one, params and state donated; on copies, for JAX owns its arrays."""
    jax: Any = import_module("jax")
    optax: Any = import_module("optax")

    transform = optax.rmsprop(LR, decay=RHO, eps=EPS, eps_in_sqrt=False)

    def update(params: Any, state: Any, grads: Any) -> Any:
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(update, donate_argnums=(0, 1))
    held = [jax.numpy.array(param, copy=True) for param in params]
    fixed = [jax.numpy.array(grad, copy=True) for grad in grads]
    state = transform.init(held)

    def step() -> None:
        nonlocal held, state
        held, state = jitted(held, state, fixed)
        jax.block_until_ready((held, state))

    return Started(step, lambda: [np.asarray(array) for array in held])


BARE, INSTEP, BOUND = "the loop alone", "instep", "instep, bound"
TUTORIAL = "NumPy, as a tutorial writes it"
TORCH = "torch.optim.RMSprop, for-loop"
FOREACH = "torch.optim.RMSprop, foreach"
COMPILED = "torch.optim.RMSprop, compiled"
NUMBA, TUNED_NUMBA = "numba", "numba, tuned"
OPTAX = "optax.rmsprop, jitted, donated"

OURS = (
    Peer(INSTEP, start_instep, use_threads=set_num_threads),
    Peer(BOUND, start_bound, use_threads=set_num_threads),
)
PEERS = (
    Peer("a loop in Python", start_python, serial=True),
    Peer(TUTORIAL, start_tutorial, serial=True),
    Peer("NumPy with out= and scratch", start_out, serial=True),
    Peer("numexpr", start_numexpr, ("numexpr",), numexpr_threads),
    Peer(NUMBA, start_numba, ("numba",), numba_threads),
    Peer(TUNED_NUMBA, start_tuned_numba, ("numba",), numba_threads),
    Peer(TORCH, start_torch, ("torch",), torch_threads),
    Peer(FOREACH, start_foreach, ("torch",), torch_threads),
    Peer(COMPILED, start_compiled, ("torch",), torch_threads, compiles=True),
    Peer(OPTAX, start_optax, ("jax", "optax"), compiles=True),
    Peer("torch.optim.Adagrad, fused", start_fused_adagrad, ("torch",), torch_threads, another_rule="Adagrad"),
    Peer("torch.optim.Adam, fused", start_fused_adam, ("torch",), torch_threads, another_rule="Adam"),
)


def versions() -> dict[str, str]:
    """The libraries that the peers come from, and which version is here, if any."""
    found = {"numpy": np.__version__}
    for module in sorted({module for peer in PEERS for module in peer.needs}):
        try:
            found[module] = version(module)
        except PackageNotFoundError:
            found[module] = ""
    return found
