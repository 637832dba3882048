"""What the optimizers of all rules have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, dataclass_transform

from . import groups as groups_of
from ._core import LARGEST_COUNT, Averaged, Option, Options, Stepper, Storage, whole_number
from .checkpoint.state_dict import StateDict, restore, state_dict_of
from .documentation import filled
from .groups import Group

if TYPE_CHECKING:
    import inspect


def _positional(*, kw_only: Literal[False]) -> Any:
    """For type checkers: the one argument of an optimizer that is not given by name."""


class _Signature:
    """What `inspect.signature` and `help` show of a class: the options that it declares."""

    def __get__(self, optimizer: object, cls: type[Optimizer]) -> inspect.Signature | None:
        import inspect

        if cls.__init__ is not Optimizer.__init__:
            return None  # that of the subclass, which `inspect` finds by itself
        params = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=type(default))
            for name, default in cls._defaults.items()
        ]
        stored = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
            for name in ("groups", "state_dtype", "master", "state")
        ]
        counted = inspect.Parameter("step_count", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=int)
        return inspect.Signature([params, *options, *stored, counted])


@dataclass_transform(kw_only_default=True, field_specifiers=(_positional,))
class Declared(Stepper):
    """Reads the options off a class as `dataclasses` reads fields: ``lr: float = 1e-3`` declares one with its default.

    A class that names a rule must declare what the rule takes, with the defaults that it has; a subclass of it may
    redeclare any of them with another default, and declares no others.
    """

    __slots__ = ("__weakref__",)  # and no __dict__: a misspelt option is an AttributeError

    rule: ClassVar[str]
    _defaults: ClassVar[dict[str, float | bool]] = {}
    _of_rule: ClassVar[dict[str, Any]] = {}

    __signature__: ClassVar[Any] = _Signature()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = [name for name, annotation in cls.__annotations__.items() if _is_option(name, annotation)]
        defaults = cls._defaults | {name: cls.__dict__[name] for name in declared if name in cls.__dict__}
        rule = getattr(cls, "rule", None)
        if rule is not None:
            defaults = _checked(cls, declared, defaults)
            cls._of_rule.setdefault(rule, cls)
            for name, default in defaults.items():
                if not isinstance(getattr(cls, name), Option) or getattr(cls, name).default != default:
                    setattr(cls, name, Option(rule, name, default))
        cls._defaults = defaults
        cls.__doc__ = filled(cls.__doc__)


def _is_option(name: str, annotation: Any) -> bool:
    """As type checkers see it: not what is the class's own, such as ``label: ClassVar[str]``."""
    spelled = annotation if isinstance(annotation, str) else repr(annotation)
    return name != "rule" and not name.startswith("_") and not re.match(r"(\w+\.)*ClassVar\b", spelled)


def _checked(cls: type[Declared], declared: list[str], defaults: dict[str, Any]) -> dict[str, float | bool]:
    """The defaults of every option of its rule, if these declarations are right."""
    registry = Options(cls.rule).values()
    for name in [*defaults, *declared]:
        if name not in registry:
            raise TypeError(f"{cls.__name__} declares {name}, but {cls.rule} has the options {', '.join(registry)}")
    for name, default in registry.items():
        kind = type(default).__name__
        if name not in defaults:
            raise TypeError(f"{cls.__name__} does not declare {name}, which is an option of {cls.rule}")
        if name in declared and name not in cls.__dict__:
            raise TypeError(
                f"{cls.__name__}.{name} is redeclared without a default: write {name}: {kind} = {defaults[name]!r}"
            )
        if name in cls.__dict__ and name not in declared:
            raise TypeError(
                f"{cls.__name__}.{name} is redeclared without its type: write {name}: {kind} = {cls.__dict__[name]!r}"
            )
    try:
        checked = Options(cls.rule).replace(defaults, ()).values()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{cls.__name__}.{error}") from None
    if "rule" in cls.__dict__:
        for name, default in checked.items():
            if default != registry[name]:
                raise TypeError(f"{cls.__name__} declares {name}={default!r}, csrc/rules.def {registry[name]!r}")
    return checked


def _require_rule(cls: type[Declared]) -> None:
    if not hasattr(cls, "rule"):
        raise TypeError(f"{cls.__name__} has no rule: use one of its subclasses, such as RMSprop")


class Optimizer(Declared):
    """What the optimizers of all rules have in common; use a rule's class, such as `RMSprop`.

    Attributes
    ----------
    options : dict
        Every option with its value, by name.  Each is also an attribute, to read and to assign between steps, checked
        alike.  State that a new option needs is made at its start value, state that is no longer needed is dropped.
    params : nesting of numpy.ndarray
        The arrays given.
    state : dict
        The state arrays by name, each in the nesting of `params`; only what the options need.
    step_count : int
        How many steps have been taken; 64 bits wide.

    Notes
    -----
    A parameter is float64, float32, float16 or bfloat16 (the dtype of ``ml_dtypes``).  Its gradient is of any of these
    dtypes, but float64 only beside float64.  Which arrays of them are taken:

    =====================================================  ==================  =========================
    array                                                  parameter or state  gradient
    =====================================================  ==================  =========================
    contiguous, writable, in the machine's byte order      in place            in place
    the same misaligned, mapped, over foreign memory       in place            in place
    contiguous, but not in the order of its parameter      ValueError          copied, refused by `bind`
    strided, reversed, broadcast                           ValueError          copied, refused by `bind`
    read-only                                              ValueError          in place
    of another shape than its parameter                    ValueError          ValueError
    of another dtype, or byte order                        TypeError           TypeError
    mapped, past the end of a file that was truncated      ValueError          ValueError
    masked, or of another subclass but ``numpy.memmap``    TypeError           TypeError
    a list, scalar, buffer or tensor                       TypeError           TypeError
    sharing memory with another parameter or state         ValueError          ValueError, unless copied
    =====================================================  ==================  =========================

    Several threads may use one optimizer.  Their calls (steps, assignments, `bind`, `save`, `load`) run one at a time;
    steps on different optimizers run side by side.  A signal handler may do all of it but step or `bind`: where its
    own thread is in the middle of any call of the same optimizer, that is a RuntimeError.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        params: Any = _positional(kw_only=False)
        groups: Any = None
        state_dtype: Literal["bfloat16", "8bit"] | None = None
        master: Literal["split", "float32"] | None = None
        state: Any = None
        step_count: Final[int] = 0

    lr: float
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    maximize: bool = False
    grad_scale: float = 1.0
    clip_value: float = 0.0
    clip_norm: float = 0.0
    clip_global_norm: float = 0.0
    skip_nonfinite: bool = False
    grow_every: int = 0
    statistics: bool = False
    zero_grads: bool = False
    average_decay: float = 0.0
    exact_rows: bool = False
    seed: int = 0

    def __init__(
        self,
        params: Any,
        *unnamed: Any,
        groups: Any = None,
        state_dtype: Any = None,
        master: Any = None,
        state: Any = None,
        step_count: Any = 0,
        **options: Any,
    ) -> None:
        _require_rule(type(self))
        if unnamed:
            raise TypeError(f"options go by name, as in {type(self).__name__}(params, lr={unnamed[0]!r:.60})")
        for name in options:
            if name not in self._defaults:
                from .dialects import unknown_option

                raise TypeError(unknown_option(type(self), name))
        storage = Storage(state_dtype, master)
        checked = Options(self.rule).replace(self._defaults | options, ())
        step_count = whole_number("step_count", step_count, 0, LARGEST_COUNT)
        if state is None and step_count != 0:
            raise ValueError(f"step_count={step_count!r} is how many steps a state has taken: give that too")
        super().__init__(checked, params, storage, groups_of.checked(self, groups), state, step_count)

    @staticmethod
    def of_rule(rule: str) -> type[Optimizer]:
        """The class that states the rule itself, without other defaults."""
        found: type[Optimizer] = Optimizer._of_rule[rule]
        return found

    @classmethod
    def preset(
        cls,
        name: str,
        params: Any,
        *,
        groups: Any = None,
        state_dtype: Any = None,
        master: Any = None,
        state: Any = None,
        step_count: Any = 0,
        **options: Any,
    ) -> Self:
        """The rule as a framework has it.

        Parameters
        ----------
        name : str
            A framework that `instep.presets` lists for this rule.
        params, groups, state_dtype, master, state, step_count
            As for the class.
        **options
            Override the preset's, under their names here or in the framework; `lr` must be among them where the
            framework has no default for it.  None is taken where the framework takes it.  All that is not given is the
            framework's: what a subclass declares for itself does not count.  Options that are assigned later go by
            their names here.

        Raises
        ------
        ValueError
            There is no preset of that name; the framework refuses or ignores one of the options; or as for the class.
        TypeError
            `lr` is missing, an option is given twice, or is none of this rule's; or as for the class.
        """
        _require_rule(cls)
        from .dialects import preset_options

        of_formula = preset_options(cls, name, options)
        return cls(
            params,
            groups=groups,
            state_dtype=state_dtype,
            master=master,
            state=state,
            step_count=step_count,
            **of_formula,
        )

    @property
    def options(self) -> dict[str, float | bool]:
        """Every option with its value, by name."""
        return self._options.values()

    if not TYPE_CHECKING:  # for which it is an argument, declared above

        @property
        def groups(self) -> Mapping[str, Group]:
            """The groups by pattern, each with its options as attributes, to read and to assign between steps.

            The mapping itself is read-only: which arrays a group has is said when the optimizer is made.
            """
            return MappingProxyType({pattern: Group(self, pattern) for pattern in self._patterns})

    def _member(self, groups: dict[str, dict[str, Any]]) -> list[int]:
        return groups_of.members(self._paths, groups)

    @property
    def loss_scale(self) -> float:
        """What to multiply the loss by, ``1 / grad_scale``.

        With `grow_every` a step may change it.  Where k gradients are accumulated for a step, the loss of each is to be
        ``loss * loss_scale / k``: their sum is the mean then, and `grad_scale` has no ``1 / k`` in it.
        """
        return 1 / float(self.options["grad_scale"])

    def averaged(self) -> AbstractContextManager[Any]:
        """A context in which the parameters are their averages, for an evaluation or to save them.

        The parameters come back, to the bit, when it is left, and where a signal interrupts it on the way in; no step
        can be taken before that.  Needs `average_decay`.  Where one of them has been made read-only meanwhile, leaving
        raises ValueError and none comes back; they do with the next step, once all can be written again.

        Returns
        -------
        context manager
            It gives `params`, which hold the averages, rounded to the nearest where they have fewer bits.
        """
        return Averaged(self)

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

        What `accumulate` has summed up is forgotten.

        Parameters
        ----------
        state_dict : dict
            From `state_dict` of an optimizer of the same rule over arrays of the same places, shapes and dtypes.  Its
            arrays are copied.

        Raises
        ------
        TypeError, ValueError
            It is not of this form, or of other params; a negative number stands where no step leaves one.  Nothing
            has changed.
        """
        restore(self, state_dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `state_dict` to a checkpoint, a file that is replaced whole or not at all.

        The parameters are not in it, for they are the trainer's: write them beside it, with ``numpy.savez`` say, which
        forgets the dtype of a bfloat16: read one back with ``.view(ml_dtypes.bfloat16)``.  The layout is that of
        safetensors, so that its tools can read the arrays.

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
            As for `state_dict`; a negative number stands where no step leaves one.
        """
        from .checkpoint import file  # not before it is needed: a step does without json and hashlib

        file.write(path, self.state_dict())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint that `save` wrote, to the bit.

        What `accumulate` has summed up is forgotten.

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
        MemoryError
            There is no room for arrays of the size of these.
        ValueError
            The checkpoint is sound, but of another rule or other params.  In all these cases nothing has changed.
        """
        from .checkpoint import file

        self.load_state_dict(file.read(path, self._leaves))

    def __dir__(self) -> list[str]:
        own = getattr(self, "__dict__", ())  # of a subclass
        return [name for name in super().__dir__() if name in own or hasattr(type(self), name)]  # no `Foreign`

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{type(self).__name__} can be neither copied nor pickled, for it steps arrays that belong to others; make "
            "another one over other arrays and give it this one's state_dict(), or use save() and load()"
        )

    def __repr__(self) -> str:
        of_formula = set(self._options.of_formula)
        options = ", ".join(
            f"{name}={value!r}"
            for name, value in self.options.items()
            if name in of_formula or value != self._defaults[name]
        )
        if self._patterns:
            options += f", groups={self._patterns!r}"
        options += "".join(f", {name}={value!r}" for name, value in self._storage.values().items() if value is not None)
        count = len(self._leaves)
        arrays = "1 array" if count == 1 else f"{count} arrays"
        return f"{type(self).__name__}({arrays}, {options})"
