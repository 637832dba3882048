"""The contenders: every rule, as each library takes it fastest.

Each is started on arrays that it updates in place, where its library can; the arrays are shared, so that all of them
walk the same pages.  A peer speaks the dialect of its own framework: before it is timed, `cross_check` holds it
against the twin under that framework's options.  What a library calls its rules is read from ``instep.dialects``.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np

from .. import optimizers, reference
from .._core import isas, set_num_threads
from ..arithmetic import Array
from ..dialects import dialects, family
from .formulas import FORMULAS, Formula
from .measure import nothing
from .work import Arrays, Work, dialect


@dataclass(frozen=True)
class Started:
    """A contender on its arrays: `step` once, and where its parameters are now.

    One with copies of the gradients has `look_again`, to be called when they have been changed in place.
    """

    step: Callable[[], Any]
    params: Callable[[], Arrays]
    look_again: Callable[[], None] = nothing


@dataclass(frozen=True)
class Peer:
    """A way to take the step.

    `start` gets the work and the number of threads; `use_threads` comes before every measurement.  Without it the peer
    is `serial`, or it chose its threads when it was loaded.  `framework` is whose dialect it speaks, if not the first
    that has the rule; `swept` are those that are measured over all sizes of an array, too.
    """

    name: str
    start: Callable[[Work, int], Started]
    needs: tuple[str, ...] = ()
    use_threads: Callable[[int], None] | None = None
    framework: str | None = None
    serial: bool = False
    built: float = 0.3  # seconds, to load and to check it
    compiles: float = 0  # seconds, for every workload
    of_array: float = 3e-5  # seconds that a step takes about: for each array
    of_element: float = 5e-9  # and for each element
    swept: bool = False
    fills: bool = True  # whether it steps the states that it is given, in their type
    most_elements: float = math.inf  # beyond which a step takes minutes

    @property
    def missing(self) -> list[str]:
        """What it needs and does not find."""
        return [module for module in self.needs if find_spec(module) is None]

    def step_seconds(self, arrays: int, elements: int) -> float:
        """What a step takes about, so that a run can say how long it will take."""
        return self.of_array * arrays + self.of_element * elements

    def thread_counts(self, most: int) -> list[int]:
        """The numbers of threads to measure it with."""
        if self.serial:
            return [1]
        return sorted({1, most}) if self.use_threads else [most]


class WrongResult(Exception):
    """A contender computes something else."""


def cross_check(peer: Peer, kind: str, shapes: list[tuple[int, ...]], threads: int, steps: int = 5) -> None:
    """Step from the start with gradients of both signs from 1e-8 to 1, where `eps` counts; compare with the twin.

    New ones for every step: of one gradient that comes again and again, Adam's steps do not depend on its betas.  The
    tolerance is for those that form ``1 - beta2^t`` in float32: of 0.001 that leaves four digits.
    """
    options = dialect(kind, peer.framework)
    generator = np.random.default_rng(0)

    def work() -> Work:
        states = {name: [np.full(shape, x, np.float32) for shape in shapes] for name, x in options.states.items()}
        params, grads = ([np.zeros(shape, np.float32) for shape in shapes] for _ in range(2))
        return Work(kind, options, params, grads, states)

    if peer.use_threads:
        peer.use_threads(threads)
    ours, theirs = work(), work()
    twin, contender = start_twin(ours, 1), peer.start(theirs, threads)
    moved = [np.zeros(shape) for shape in shapes]
    for _ in range(steps):
        for one, other in zip(ours.grads, theirs.grads, strict=True):
            one[...] = other[...] = 10 ** generator.uniform(-8, 0, one.shape) * generator.choice([-1, 1], one.shape)
        before = [param.copy() for param in ours.params]
        contender.look_again()
        twin.step()
        contender.step()
        for distance, param, then in zip(moved, ours.params, before, strict=True):
            distance += np.abs(param - then)
    worst = max(
        float(np.max(np.abs(param.reshape(-1) - expected.reshape(-1)) / distance.reshape(-1)))
        for param, expected, distance in zip(contender.params(), ours.params, moved, strict=True)
    )
    if not worst < 1e-4:
        raise WrongResult(f"{peer.name} is off by {worst:.1e} of the distance moved after {steps} steps")


# ---- instep -----------------------------------------------------------------------------------------------------


def start_instep(work: Work, threads: int) -> Started:
    """`step(grads)`."""
    optimizer = instep_optimizer(work)
    return Started(partial(optimizer.step, work.grads), lambda: work.params)


def start_bound(work: Work, threads: int) -> Started:
    """`bind(grads)` once, then `step()`."""
    optimizer = instep_optimizer(work)
    optimizer.bind(work.grads)
    return Started(optimizer.step, lambda: work.params)


def instep_optimizer(work: Work) -> optimizers.Optimizer:
    """An optimizer under these options, on these states."""
    optimizer = family()[work.kind](work.params, **work.options.values())
    optimizer._adopt(optimizer._options, work.states)
    return optimizer


# ---- NumPy and Python -------------------------------------------------------------------------------------------


def start_twin(work: Work, threads: int) -> Started:
    """What `instep.reference` has, which checks its options at every step."""
    twin, options, step_counts = getattr(reference, work.kind), work.options.formula(), count(1)
    arrays = [dict(zip(("param", "grad", *work.states), of_param, strict=True)) for of_param in work.of_each]

    def step() -> None:
        t = next(step_counts)
        for of_param in arrays:
            twin(**of_param, step_count=t, **options)

    return Started(step, lambda: work.params)


def start_tutorial(work: Work, threads: int) -> Started:
    """As a tutorial writes it."""
    formula, step_counts = FORMULAS[work.kind], count(1)
    element, coefficients, options = *formula, formula.options(work.options.values())
    params, grads = work.params, work.grads
    states = [[array.copy() for array in of_param[2:]] for of_param in work.of_each]

    def step() -> None:
        c = coefficients(next(step_counts), *options)
        for k in range(len(params)):
            update, *states[k] = element(params[k], grads[k], *states[k], *c)
            params[k] -= update

    return Started(step, lambda: params)


def start_python(work: Work, threads: int) -> Started:
    """RMSprop as a loop over lists of floats."""
    lr, rho, eps = (work.options.values()[name] for name in ("lr", "rho", "eps"))
    p, g, v = (np.concatenate(arrays).tolist() for arrays in zip(*work.flat, strict=True))
    offsets = np.cumsum([param.size for param in work.params])[:-1]

    def step() -> None:
        for i in range(len(p)):
            v[i] = rho * v[i] + (1 - rho) * g[i] * g[i]
            p[i] -= lr * g[i] / (math.sqrt(v[i]) + eps)

    def look_again() -> None:
        g[:] = np.concatenate([grad.reshape(-1) for grad in work.grads]).tolist()

    return Started(step, lambda: np.split(np.array(p), offsets), look_again)


def start_out(work: Work, threads: int) -> Started:
    """RMSprop in NumPy with `out=` and scratch that is kept."""
    lr, rho, eps = (work.options.values()[name] for name in ("lr", "rho", "eps"))
    scratch = np.empty(max(param.size for param in work.params), work.params[0].dtype)
    arrays = [(*of_param, scratch[: of_param[0].size]) for of_param in work.flat]

    def step() -> None:
        for p, g, v, s in arrays:
            np.multiply(g, g, out=s)
            np.multiply(s, 1 - rho, out=s)
            np.multiply(v, rho, out=v)
            np.add(v, s, out=v)
            np.sqrt(v, out=s)
            np.add(s, eps, out=s)
            np.divide(g, s, out=s)
            np.multiply(s, lr, out=s)
            np.subtract(p, s, out=p)

    return Started(step, lambda: work.params)


# ---- compilers of expressions and loops -------------------------------------------------------------------------


def start_numexpr(work: Work, threads: int) -> Started:
    """RMSprop as two expressions, compiled beforehand; `float` is numexpr's word for float32."""
    numexpr: Any = import_module("numexpr")

    options = work.options.values()
    average = numexpr.NumExpr("rho * v + rest * g * g", [(name, float) for name in ("v", "g", "rho", "rest")])
    update = numexpr.NumExpr("p - lr * g / (sqrt(v) + eps)", [(name, float) for name in ("p", "g", "v", "lr", "eps")])
    rho, rest = (np.array(x, np.float32) for x in (options["rho"], 1 - options["rho"]))
    lr, eps = (np.array(options[name], np.float32) for name in ("lr", "eps"))

    def step() -> None:
        for p, g, v in work.flat:
            average(v, g, rho, rest, out=v, ex_uses_vml=False)
            update(p, g, v, lr, eps, out=p, ex_uses_vml=False)

    return Started(step, lambda: work.params)


def numexpr_threads(threads: int) -> None:
    """Those of its pool."""
    numexpr: Any = import_module("numexpr")

    numexpr.set_num_threads(threads)


@cache
def numba_loop(formula: Formula, states: int, parallel: bool, error_model: str) -> Callable[..., None]:
    """The jitted loop over one array, which has so many states."""
    numba: Any = import_module("numba")

    element = numba.njit(error_model=error_model)(formula.element)

    def of_none(p: Array, g: Array, c: Any) -> None:
        for i in numba.prange(p.size):
            (lost,) = element(p[i], g[i], *c)
            p[i] -= lost

    def of_one(p: Array, g: Array, u: Array, c: Any) -> None:
        for i in numba.prange(p.size):
            lost, u[i] = element(p[i], g[i], u[i], *c)
            p[i] -= lost

    def of_two(p: Array, g: Array, u: Array, v: Array, c: Any) -> None:
        for i in numba.prange(p.size):
            lost, u[i], v[i] = element(p[i], g[i], u[i], v[i], *c)
            p[i] -= lost

    loop = (of_none, of_one, of_two)[states]
    return cast(Callable[..., None], numba.njit(parallel=parallel, error_model=error_model)(loop))


@cache
def numba_loops(formula: Formula, states: int, parallel: bool) -> Callable[..., None]:
    """The jitted loop over lists of arrays, which forms the coefficients too."""
    numba: Any = import_module("numba")

    jit = numba.njit(error_model="numpy")
    coefficients, loop = jit(formula.coefficients), numba_loop(formula, states, parallel, "numpy")

    def of_none(t: int, o: Any, ps: Arrays, gs: Arrays) -> None:
        c = coefficients(t, *o)
        for k in range(len(ps)):
            loop(ps[k], gs[k], c)

    def of_one(t: int, o: Any, ps: Arrays, gs: Arrays, us: Arrays) -> None:
        c = coefficients(t, *o)
        for k in range(len(ps)):
            loop(ps[k], gs[k], us[k], c)

    def of_two(t: int, o: Any, ps: Arrays, gs: Arrays, us: Arrays, vs: Arrays) -> None:
        c = coefficients(t, *o)
        for k in range(len(ps)):
            loop(ps[k], gs[k], us[k], vs[k], c)

    return cast(Callable[..., None], jit((of_none, of_one, of_two)[states]))


def start_numba(work: Work, threads: int) -> Started:
    """One jitted loop, called for each array: as it is commonly written."""
    formula, step_counts = FORMULAS[work.kind], count(1)
    loop = numba_loop(formula, len(work.states), threads > 1, "python")
    options, arrays = formula.options(work.options.values()), work.flat

    def step() -> None:
        c = formula.coefficients(next(step_counts), *options)
        for of_param in arrays:
            loop(*of_param, c)

    return Started(step, lambda: work.params)


def start_tuned_numba(work: Work, threads: int) -> Started:
    """No check for a division by zero, which keeps the loop from being vectorized, and one call for all arrays."""
    typed: Any = import_module("numba.typed")

    formula, step_counts = FORMULAS[work.kind], count(1)
    loops = numba_loops(formula, len(work.states), threads > 1)
    options = formula.options(work.options.values())
    columns = [typed.List(column) for column in zip(*work.flat, strict=True)]
    return Started(lambda: loops(next(step_counts), options, *columns), lambda: work.params)


def numba_threads(threads: int) -> None:
    """Of those that numba started with."""
    numba: Any = import_module("numba")

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


# ---- torch ------------------------------------------------------------------------------------------------------


def torch_optimizer(work: Work, module: str = "torch.optim", **way: Any) -> Any:
    """The optimizer of this module with its defaults, on these states."""
    torch: Any = import_module("torch")

    parameters = [torch.nn.Parameter(torch.from_numpy(param)) for param in work.params]
    cls = getattr(import_module(module), family()[work.kind].__name__)
    optimizer = cls(parameters, lr=work.options.values()["lr"], **way)
    names = dialects()["torch"][work.kind].states
    for k, parameter in enumerate(parameters):
        parameter.grad = torch.from_numpy(work.grads[k])
        if work.states:
            states = {names[name]: torch.from_numpy(arrays[k]) for name, arrays in work.states.items()}
            optimizer.state[parameter] = {"step": torch.tensor(0.0), **states}
    return optimizer


def start_torch(work: Work, threads: int, **way: Any) -> Started:
    """In one of torch's ways, and with what else it is given."""
    return Started(torch_optimizer(work, **way).step, lambda: work.params)


def start_drop_in(work: Work, threads: int) -> Started:
    """`instep.torch`, in the place of ``torch.optim``."""
    return Started(torch_optimizer(work, "instep.torch").step, lambda: work.params)


def start_compiled(work: Work, threads: int) -> Started:
    """`torch.compile` of the step, without autograd's guards.

    What was compiled before is forgotten: past eight variants of a function the compiler would quietly give up.
    """
    torch: Any = import_module("torch")

    torch._dynamo.reset()
    torch._logging.set_logs(dynamo=logging.ERROR)
    return Started(torch.compile(torch_optimizer(work, foreach=False).step), lambda: work.params)


def torch_threads(threads: int) -> None:
    """Within an operation."""
    torch: Any = import_module("torch")

    torch.set_num_threads(threads)


def drop_in_threads(threads: int) -> None:
    """The lesser of torch's number and ours."""
    torch_threads(threads)
    set_num_threads(threads)


# ---- DeepSpeed --------------------------------------------------------------------------------------------------


DEEPSPEED_MODULE = "instep_bench_deepspeed_adam"


def deepspeed_seconds() -> float:
    """What building its kernel takes, once: torch keeps what it has built."""
    kept = Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache" / "torch_extensions"))
    return 1 if any(kept.rglob(f"{DEEPSPEED_MODULE}.so")) else 150


@cache
def deepspeed_adam() -> Any:
    """The C++ kernel of DeepSpeed's CPU Adam, from the sources that are installed: built once, in minutes.

    DeepSpeed itself is not imported, for which it would need much else.
    """
    cpp_extension: Any = import_module("torch.utils.cpp_extension")

    spec = find_spec("deepspeed")
    assert spec is not None
    assert spec.origin is not None
    csrc = Path(spec.origin).parent / "ops" / "csrc"
    vectors = "-D__AVX512__" if isas().get("x86_v4") else "-D__AVX256__" if isas().get("x86_v3") else "-D__SCALAR__"
    flags = ["-O3", "-std=c++20", "-march=native", "-fopenmp", "-D__DISABLE_CUDA__", vectors]
    return cpp_extension.load(
        DEEPSPEED_MODULE,
        [str(csrc / "adam" / name) for name in ("cpu_adam.cpp", "cpu_adam_impl.cpp")],
        extra_include_paths=[str(csrc / "includes")],
        extra_cflags=flags,
    )


HANDLES = count()


def start_deepspeed(work: Work, threads: int) -> Started:
    """Its kernel, called for each tensor, as its engine does."""
    torch: Any = import_module("torch")

    kernel, step_counts, options = deepspeed_adam(), count(1), work.options.values()
    numbers = [options[name] for name in ("lr", "beta1", "beta2", "eps", "weight_decay")]
    handle = next(HANDLES)
    kernel.create_adam(handle, *numbers, bool(options["decoupled_weight_decay"]), False)
    tensors = [[torch.from_numpy(array) for array in of_param] for of_param in work.flat]

    def step() -> None:
        t = next(step_counts)
        for p, g, m, v in tensors:
            kernel.adam_update(handle, t, *numbers, True, p, g, m, v)

    return Started(step, lambda: work.params)


# ---- optax ------------------------------------------------------------------------------------------------------


def start_optax(work: Work, threads: int) -> Started:
    """Update and application jitted as one, params and state donated; on copies, for JAX owns its arrays."""
    jax: Any = import_module("jax")
    optax: Any = import_module("optax")

    transform = getattr(optax, work.kind)(work.options.values()["lr"])

    def update(params: Any, state: Any, grads: Any) -> Any:
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(update, donate_argnums=(0, 1))
    held = [jax.numpy.array(param, copy=True) for param in work.params]
    fixed: list[Any] = []

    def look_again() -> None:
        fixed[:] = [jax.numpy.array(grad, copy=True) for grad in work.grads]

    look_again()
    state = transform.init(held)

    def step() -> None:
        nonlocal held, state
        held, state = jitted(held, state, fixed)
        jax.block_until_ready((held, state))

    return Started(step, lambda: [np.asarray(array) for array in held], look_again)


# ---- who has which rule -----------------------------------------------------------------------------------------

INSTEP, BOUND, DROP_IN = "instep", "instep, bound", "instep.torch"
PYTHON, TUTORIAL = "a loop in Python", "NumPy, as a tutorial writes it"
OUT, TWIN = "NumPy with out= and scratch", "NumPy, the twin"
NUMBA, TUNED_NUMBA = "numba", "numba, tuned"
DEEPSPEED = "DeepSpeed's C++ kernel"


def torch_name(kind: str, way: str) -> str:
    """What torch's optimizer of this rule is called here."""
    return f"torch.optim.{family()[kind].__name__}, {way}"


def optax_name(kind: str) -> str:
    """The same for optax."""
    return f"optax.{kind}, jitted, donated"


BOUND_STEP = Peer(BOUND, start_bound, use_threads=set_num_threads, of_array=1e-7, of_element=6e-10)
OURS = (Peer(INSTEP, start_instep, use_threads=set_num_threads, of_array=1e-7, of_element=6e-10), BOUND_STEP)
DEEPSPEED_ADAM = Peer(
    DEEPSPEED, start_deepspeed, ("torch", "deepspeed"), torch_threads, "torch",
    built=deepspeed_seconds(), of_array=3e-6, of_element=1e-9, swept=True,
)  # fmt: skip
# What is written for one rule alone.
WRITTEN_OUT = {
    "rmsprop": (
        Peer(PYTHON, start_python, serial=True, swept=True, fills=False, of_element=3e-7, most_elements=1_000_000),
        Peer(OUT, start_out, serial=True, swept=True),
        Peer("numexpr", start_numexpr, ("numexpr",), numexpr_threads),
        Peer(NUMBA, start_numba, ("numba",), numba_threads, built=3),
        Peer(
            torch_name("rmsprop", "compiled"), start_compiled, ("torch",), torch_threads, "torch",
            built=15, compiles=10, of_element=1e-9, swept=True,
        ),
    ),
    "adam": (DEEPSPEED_ADAM,),
    "adamw": (DEEPSPEED_ADAM,),
}  # fmt: skip
FUSED = ("sgd", "adagrad", "adam", "adamw")


def peers_of(kind: str) -> Iterator[Peer]:
    """Everyone who has this rule."""
    if kind in FORMULAS:
        yield Peer(TUTORIAL, start_tutorial, serial=True, of_element=8e-9, swept=True)
    yield Peer(TWIN, start_twin, serial=True, of_array=6e-5, of_element=1e-8)
    yield from WRITTEN_OUT.get(kind, ())
    if kind in FORMULAS:
        yield Peer(
            TUNED_NUMBA,
            start_tuned_numba,
            ("numba",),
            numba_threads,
            built=2,
            of_array=1e-6,
            of_element=1e-9,
            swept=True,
        )
    if kind in dialects()["torch"]:
        yield Peer(DROP_IN, start_drop_in, ("torch",), drop_in_threads, "torch", of_array=1e-6, of_element=6e-10)
        for way in ("for-loop", "foreach"):
            start = partial(start_torch, foreach=way == "foreach")
            yield Peer(torch_name(kind, way), start, ("torch",), torch_threads, "torch", swept=way == "for-loop")
    if kind in FUSED:
        start = partial(start_torch, fused=True)
        yield Peer(torch_name(kind, "fused"), start, ("torch",), torch_threads, "torch", swept=True)
    if kind in dialects()["optax"]:
        yield Peer(
            optax_name(kind), start_optax, ("jax", "optax"), framework="optax",
            built=1.5, compiles=0.5, of_element=1e-9, swept=True, fills=False,
        )  # fmt: skip


def versions(peers: list[Peer]) -> dict[str, str]:
    """The libraries that these come from, and which version is here, if any."""
    found = {"numpy": np.__version__}
    for module in sorted({module for peer in peers for module in peer.needs}):
        try:
            found[module] = version(module)
        except PackageNotFoundError:
            found[module] = ""
    return found
