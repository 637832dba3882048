"""What users import: a rule as a class that holds state, and as a function of one array whose state the caller owns."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Generic, TypeVar, overload

import numpy as np

from ._core import Function, Options, Stepper
from .presets import preset_options
from .reference import Array, square_avg_of
from .state_dict import StateDict, default_arithmetic, restore, state_dict_of

Value = TypeVar("Value", float, bool)


class Option(Generic[Value]):
    """An option as an attribute: what is assigned is checked first, and counts from the next step on."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, optimizer: None, owner: type) -> Option[Value]: ...
    @overload
    def __get__(self, optimizer: Optimizer, owner: type) -> Value: ...
    def __get__(self, optimizer: Optimizer | None, owner: type) -> Any:
        return self if optimizer is None else optimizer._get_option(self.name)

    def __set__(self, optimizer: Optimizer, value: Value) -> None:
        optimizer._set_options({self.name: value})


class Optimizer(Stepper):
    """What the rules have in common; use a rule's class, such as `RMSprop`."""

    __slots__ = ("__weakref__",)  # and no __dict__: a misspelt option is an AttributeError

    rule: ClassVar[str]

    @property
    def options(self) -> dict[str, float | bool]:
        """Every option with its value, by name."""
        return self._options.values()

    def state_dict(self) -> StateDict:
        """Everything but the parameters, as plain dicts of arrays and numbers.

        Returns
        -------
        dict
            ``rule``, ``options`` by name, ``step_count``, ``step_counts`` by place, and ``state``: arrays by name and
            place.  All of them are copies, taken between two steps.  The place of an array in the nesting of the
            params is spelled as its keys, joined by slashes, such as ``"layers/0/weight"``.

        Raises
        ------
        TypeError, ValueError
            A key in the nesting of the params is not an int, nor a str of Unicode text.
        """
        return state_dict_of(self)

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Go on from this state and with its options, if all of it fits.

        Parameters
        ----------
        state_dict : dict
            From `state_dict` of an optimizer of the same rule over arrays of the same places, shapes and dtypes.  Its
            arrays are copied.

        Raises
        ------
        TypeError, ValueError
            It is not of this form, or of other params; an average of squares is negative.  Nothing has changed.
        """
        restore(self, state_dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `state_dict` to a checkpoint, a file that is replaced whole or not at all.

        The parameters are not in it, for they are the trainer's: write them beside it, with `numpy.savez` say.  The
        layout is that of safetensors, so that its tools can read the arrays.

        Parameters
        ----------
        path : str or os.PathLike
            When `save` returns, the new file is on the disk under this name.  When it raises, or never returns, the
            file of this name is the one that was there before, or the new one.

        Raises
        ------
        OSError
            The file could not be written.
        TypeError, ValueError
            As for `state_dict`; an average of squares is negative.
        """
        from . import checkpoint  # not before it is needed: a step does without json and hashlib

        checkpoint.write(path, self.state_dict())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint that `save` wrote, to the bit.

        Parameters
        ----------
        path : str or os.PathLike
            Of an optimizer of the same rule over arrays of the same places, shapes and dtypes.  Its options are
            loaded too.

        Raises
        ------
        OSError
            The file could not be read.
        CheckpointError
            The file is not a checkpoint, is damaged, too large for one of these params, or was written by a newer
            instep.
        ValueError
            The checkpoint is sound, but of another rule or other params.

        Whatever is raised, nothing has changed.
        """
        from . import checkpoint

        like_params = next(iter(self._states.values()))
        self.load_state_dict(checkpoint.read(path, like_params))

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{type(self).__name__} can be neither copied nor pickled, for it steps arrays that belong to others; make "
            "another one over other arrays and give it this one's state_dict(), or use save() and load()"
        )

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({self.count} arrays, {options})"


class RMSprop(Optimizer):
    """RMSprop over one array or many, in place.

    For every element, in this order:

    ===============================================================  =====================================
    ``g = -grad``                                                    if `maximize`, else ``g = grad``
    ``p = (1 - lr weight_decay) p``                                  if `decoupled_weight_decay`
    ``g = g + weight_decay p``                                       else, if `weight_decay` is not 0
    ``v = rho v + (1 - rho) g^2``                                    v is ``square_avg``
    ``d = g - m; v = rho (v + (1 - rho) d d); m = m + (1 - rho) d``  if `centered`; v is ``variance``,
                                                                     m is ``grad_avg``
    ``c = v / (1 - rho^t)``                                          if `bias_correction`, else ``c = v``
    ``u = g / (sqrt(c) + eps)``                                      ``g / sqrt(c + eps)`` if `eps_inside`
    ``p = p - lr u``                                                 if `momentum` is 0
    ``b = momentum b + u; p = p - lr b``                             b is ``momentum_buffer``
    ``b = momentum b + lr u; p = p - b``                             if `lr_in_momentum`
    ``b`` in the last step becomes ``u + momentum b``                if `nesterov` (``lr u + ...`` likewise)
    ===============================================================  =====================================

    Every coefficient, such as ``1 - rho``, is formed in double and rounded once to the dtype of the array.  The result
    has the bits of `instep.reference.rmsprop`, on every instruction set, for any number of threads.

    Parameters
    ----------
    params : numpy.ndarray or nesting of list, tuple, dict of them
        float32 or float64 (they may be mixed), of any shapes, C- or Fortran-contiguous, none sharing memory with
        another.  Updated in place by `step`.  They are never resized in place while the optimizer lives: NumPy refuses
        to, for there are weak references to them.
    lr : float
        The learning rate; 0 or greater.
    rho : float
        How much of the running average a step keeps; in [0, 1).  Others call it alpha, decay or gamma.
    eps : float
        Keeps the denominator from 0; greater than 0 in the dtype of every array.
    eps_inside : bool
        Add `eps` inside the square root (TensorFlow, Keras, optax) instead of outside (torch, Hinton).
    momentum : float
        The decay of the momentum; in [0, 1); 0 for none.
    nesterov : bool
        Nesterov's momentum as optax does it; needs `momentum`.
    lr_in_momentum : bool
        Multiply by `lr` what enters the momentum buffer (TensorFlow, Keras, optax) instead of what leaves it (torch).
        The two are the same for a constant `lr`.  Assigned between steps it converts the momentum by the present `lr`.
    centered : bool
        Divide by the standard deviation of the gradient, estimated as a running variance (Graves 2013).  Carrying the
        variance itself gives ``square_avg - grad_avg^2`` without its cancellation, so that finite gradients never
        produce a NaN, short of an update or a weight decay that overflows.  `instep.variance_of` and
        `instep.square_avg_of` convert the state.
    initial_square_avg : float
        What ``square_avg`` or ``variance`` starts at; 1 in TensorFlow 1.  Assigned before the first step it makes the
        state anew; later it counts only for state that is made later.
    bias_correction : bool
        Divide the running average by ``1 - rho^t``, t being the number of steps that the array has taken; not with
        `centered`, nor with an `initial_square_avg` other than 0.
    weight_decay : float
        Pulls parameters towards 0: added to the gradient (L2).  0 or greater.
    decoupled_weight_decay : bool
        Shrink the parameters by ``1 - lr weight_decay`` before the update instead; ``lr weight_decay`` at most 1.
    maximize : bool
        Climb instead of descending.

    Attributes
    ----------
    lr, rho, ... : float or bool
        Every option, to read and to assign between steps, checked alike.  State that a new option needs is made at its
        start value (``variance`` of the old ``square_avg``, and back), state that is no longer needed is dropped.
    options : dict
        All of them by name.
    params : nesting of numpy.ndarray
        The arrays given.
    state : dict
        The state arrays by name, each in the nesting of `params`; only what the options need.
    step_count : int
        How many steps have been taken; 64 bits wide.

    Raises
    ------
    TypeError
        Something is not an array of float32 or float64, or an option is not of its type.
    ValueError
        An array is read-only, not contiguous or shares memory with another; an option is out of its range or
        contradicts another.

    Notes
    -----
    Which arrays are taken:

    =====================================================  ==================  =========================
    array                                                  parameter or state  gradient
    =====================================================  ==================  =========================
    contiguous, writable, in the machine's byte order      in place            in place
    the same misaligned, mapped, over foreign memory       in place            in place
    contiguous, but not in the order of its parameter      ValueError          copied, refused by `bind`
    strided, reversed, broadcast                           ValueError          copied, refused by `bind`
    read-only                                              ValueError          in place
    of another shape than its parameter                    ValueError          ValueError
    of another dtype than its parameter, or byte order     TypeError           TypeError
    mapped, past the end of a file that was truncated      ValueError          ValueError
    masked, or of another subclass but ``numpy.memmap``    TypeError           TypeError
    a list, scalar, buffer or tensor                       TypeError           TypeError
    sharing memory with another parameter or state         ValueError          ValueError, unless copied
    =====================================================  ==================  =========================

    Whatever several threads do with one optimizer, steps, assignments, `bind`, `save` and `load`, follows one another;
    steps on different optimizers run side by side.  A signal handler may do all of it but step or `bind`: where its
    own thread is in the middle of any call of the same optimizer, that is a RuntimeError.

    References
    ----------
    Geoffrey Hinton, Neural Networks for Machine Learning, lecture 6e, 2012.
    Alex Graves, Generating sequences with recurrent neural networks, arXiv:1308.0850, 2013.

    Examples
    --------
    >>> import numpy as np, instep
    >>> weights = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
    >>> opt = instep.RMSprop(weights, lr=0.1)
    >>> opt.step({"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)})
    >>> weights["w"][0, 0].round(4)
    np.float32(0.6838)
    """

    __slots__ = ()

    rule = "rmsprop"

    lr = Option[float]()
    rho = Option[float]()
    eps = Option[float]()
    eps_inside = Option[bool]()
    momentum = Option[float]()
    nesterov = Option[bool]()
    lr_in_momentum = Option[bool]()
    centered = Option[bool]()
    initial_square_avg = Option[float]()
    bias_correction = Option[bool]()
    weight_decay = Option[float]()
    decoupled_weight_decay = Option[bool]()
    maximize = Option[bool]()

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 1e-3,
        rho: float = 0.9,
        eps: float = 1e-8,
        eps_inside: bool = False,
        momentum: float = 0.0,
        nesterov: bool = False,
        lr_in_momentum: bool = False,
        centered: bool = False,
        initial_square_avg: float = 0.0,
        bias_correction: bool = False,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
    ) -> None:
        options = {name: value for name, value in locals().items() if name in _RMSPROP_OPTIONS}
        super().__init__(Options(self.rule).replace(options, ()), params)

    @classmethod
    def preset(cls, name: str, params: Any, **options: Any) -> RMSprop:
        """RMSprop in the dialect of a framework.

        Parameters
        ----------
        name : str
            A name that `instep.presets` lists.
        params
            As for the class.
        **options
            Override the preset's; `lr` must be among them where the framework has no default for it.  What is assigned
            later is this class's own affair, and no longer the dialect's.

        Raises
        ------
        ValueError
            There is no preset of that name, or the framework refuses or ignores one of the options.
        TypeError
            `lr` is missing.
        """
        return cls(params, **preset_options(name, options))

    def _keeps_states(self, options: Options, before: Options) -> bool:
        return super()._keeps_states(options, before) and not _moves_lr(options, before)

    @default_arithmetic()
    def _make_states(self, options: Options, before: Options, old: dict[str, list[Array]]) -> dict[str, list[Array]]:
        states: dict[str, list[Array]] = super()._make_states(options, before, old)
        if "momentum_buffer" in old and "momentum_buffer" in states and _moves_lr(options, before):
            lr, into = before.values()["lr"], bool(options.values()["lr_in_momentum"])
            states["momentum_buffer"] = [move_lr(buffer, lr, into=into) for buffer in old["momentum_buffer"]]
        if "variance" in states and "square_avg" in old:  # grad_avg starts at 0, so that they are equal
            states["variance"] = old["square_avg"]
        elif "square_avg" in states and "variance" in old:
            pairs = zip(old["variance"], old["grad_avg"], strict=True)
            states["square_avg"] = [np.asarray(square_avg_of(*pair)) for pair in pairs]
        return states


def _moves_lr(options: Options, before: Options) -> bool:
    """Whether lr would meet a momentum that there is at its other end."""
    old = before.values()
    return bool(old["momentum"]) and options.values()["lr_in_momentum"] != old["lr_in_momentum"]


def move_lr(buffer: Array, lr: float, *, into: bool) -> Array:
    """The momentum with `lr` in it of one without, or the other way round, as a new array."""
    if buffer.dtype.type(lr) == 0:
        raise ValueError(
            f"lr_in_momentum cannot change while lr is 0 in {buffer.dtype} (lr={lr!r}): the momentum could not be "
            "converted"
        )
    moved: Array = np.asarray(np.multiply(buffer, lr) if into else np.true_divide(buffer, lr))
    if (np.isfinite(buffer) & ~np.isfinite(moved)).any():
        way = "multiplied" if into else "divided"
        raise ValueError(f"lr_in_momentum cannot change: the momentum {way} by lr={lr!r} overflows {buffer.dtype}")
    return moved


_RMSPROP_OPTIONS = frozenset(Options(RMSprop.rule).values())


_rmsprop = Function(
    "rmsprop",
    states=("square_avg", "variance", "grad_avg", "momentum_buffer"),
    options=(
        "lr",
        "rho",
        "eps",
        "eps_inside",
        "momentum",
        "nesterov",
        "lr_in_momentum",
        "centered",
        "initial_square_avg",
        "bias_correction",
        "weight_decay",
        "decoupled_weight_decay",
        "maximize",
    ),
)


def rmsprop(
    param: Array,
    grad: Array,
    square_avg: Array | None = None,
    *,
    variance: Array | None = None,
    grad_avg: Array | None = None,
    momentum_buffer: Array | None = None,
    step_count: int = 1,
    lr: float = 1e-3,
    rho: float = 0.9,
    eps: float = 1e-8,
    eps_inside: bool = False,
    momentum: float = 0.0,
    nesterov: bool = False,
    lr_in_momentum: bool = False,
    centered: bool = False,
    initial_square_avg: float = 0.0,
    bias_correction: bool = False,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one RMSprop step on one array, in place.

    ::

        square_avg <- rho square_avg + (1 - rho) grad^2
        param      <- param - lr grad / (sqrt(square_avg) + eps)

    `instep.RMSprop` documents every option and its formula; `instep.reference.rmsprop` spells them out in NumPy and
    leaves the same bits.

    Parameters
    ----------
    param : numpy.ndarray
        float32 or float64, of any shape, C- or Fortran-contiguous.  Updated in place.
    grad : numpy.ndarray
        Of the shape and dtype of `param`.  Not modified.  Copied first when it is not laid out as `param`.
    square_avg : numpy.ndarray
        The running average of the squared gradient, of the shape, dtype and layout of `param`.  Updated in place.
        Start it at 0, or wherever the dialect does.  Needed unless `centered`.
    variance, grad_avg : numpy.ndarray
        The running variance and average of the gradient, likewise; needed when `centered`, in the place of
        `square_avg`.
    momentum_buffer : numpy.ndarray
        The momentum, likewise, started at 0; needed when `momentum` is not 0.
    step_count : int
        Which step this is, from 1.  Only `bias_correction` depends on it.
    lr, rho, eps, eps_inside, momentum, nesterov, lr_in_momentum, centered, initial_square_avg, bias_correction, \
weight_decay, decoupled_weight_decay, maximize
        As for `instep.RMSprop`.  `initial_square_avg` changes nothing here, where the caller makes the state; it may be
        given so that one set of options serves both.

    Raises
    ------
    TypeError
        An argument is not an array, or of another dtype, or a state that these options need is missing, or one that
        they do not need is given.
    ValueError
        An array is read-only, not contiguous, of another shape, or shares memory with another one; an option is out
        of its range or contradicts another.

    Whatever is raised, nothing has been written.

    References
    ----------
    Geoffrey Hinton, Neural Networks for Machine Learning, lecture 6e, 2012.

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, square_avg = np.zeros(2), np.zeros(2)
    >>> instep.rmsprop(param, np.array([0.5, 0.0]), square_avg, lr=0.1)
    >>> param.round(4)
    array([-0.3162,  0.    ])
    """
    _rmsprop.step(
        param,
        grad,
        (square_avg, variance, grad_avg, momentum_buffer),
        step_count,
        (
            lr,
            rho,
            eps,
            eps_inside,
            momentum,
            nesterov,
            lr_in_momentum,
            centered,
            initial_square_avg,
            bias_correction,
            weight_decay,
            decoupled_weight_decay,
            maximize,
        ),
    )
