"""What the optimizers of torch have in common here: whose step is taken when."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, ClassVar, NamedTuple, overload

import torch
from torch.compiler import is_compiling

from .. import _torch
from ..dialects.conversion import IDLE_WITHOUT, counterpart
from ..optimizers import Optimizer

# Options that choose one of torch's own ways to compute the same.
_WAYS = ("foreach", "fused")
# What torch's own step calls of the class, so that a subclass may do something else there.
_CALLED = ("_init_group", "_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check")
_ANY_NAMES = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class _Marks:
    """What compiled steps write to: torch drops what they write to self, and compiles anew when a dict grows."""


_marks = _Marks()
_compiled: dict[str, bool] = _marks.__dict__  # the optimizers whose last step was compiled


def _mark(optimizer: Dropin) -> str:
    return f"of_{id(optimizer)}"


class Fallback(NamedTuple):
    """What torch stepped itself, and why.

    Attributes
    ----------
    group : int
        The place of the parameter group in ``param_groups``.
    param : int or None
        The place of the parameter in the group's ``params``, or None for all of them.
    name : str or None
        Its name, where the optimizer was given named parameters.
    reason : str
        In words.
    """

    group: int
    param: int | None
    name: str | None
    reason: str


class Dropin(torch.optim.Optimizer):
    """Comes before an optimizer of torch's among the bases of a class, and takes its steps where it can."""

    _gatherer: _torch.Gatherer | None = None
    _here: ClassVar[type[Optimizer]]
    _framework: ClassVar[str]
    _torch_step: ClassVar[Callable[..., Any]]
    _watched_torch_step: ClassVar[Callable[..., Any]]
    _plain_step: ClassVar[Callable[..., Any]]
    _closure_step: ClassVar[Callable[..., Any]]
    _watched_step: ClassVar[Callable[..., Any]]

    # What stands under "step" in a state.
    _counter: ClassVar[type | None] = torch.Tensor
    # Whether a tensor as lr means the number in it, and is not computed with.
    _reads_tensors: ClassVar[bool] = True

    def __init_subclass__(cls, here: type[Optimizer] | None = None, framework: str = "torch", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if here is not None:
            cls._here, cls._framework = here, framework
            step: Any = cls._theirs().step
            cls._torch_step = step.__wrapped__ if getattr(step, "hooked", False) else step
            cls._watched_torch_step = cls._own(torch.optim.Optimizer.profile_hook_step(cls._torch_step))
            cls._closure_step = cls._own(_step)
            cls._watched_step = torch.optim.Optimizer.profile_hook_step(cls._closure_step)
            if cls.step is Dropin.step:
                cls.step = cls._plain_step = cls._own(Dropin.step)  # type: ignore[method-assign]

    @classmethod
    def _own(cls, function: Any) -> Any:
        """The function as the step of this class, with torch's name and signature.

        Its code is an object of its own, for torch counts by such objects how often it has compiled, and then stops.
        """
        code = function.__code__.replace(co_name="step", co_qualname=cls._torch_step.__qualname__)
        own: Any = FunctionType(code, function.__globals__, "step", function.__defaults__, function.__closure__)
        own.__dict__.update(function.__dict__)
        own.__module__ = cls.__module__
        own.__signature__ = inspect.signature(cls._torch_step)
        return own

    def _patch_step_function(self) -> None:
        """Called by torch of each new optimizer, be it made, copied or unpickled."""
        super()._patch_step_function()  # type: ignore[no-untyped-call, misc, unused-ignore]
        _compiled.pop(_mark(self), None)

    @classmethod
    def _theirs(cls) -> type[torch.optim.Optimizer]:
        """The class of torch's that this one stands for."""
        bases = [base for base in cls.__mro__ if issubclass(base, torch.optim.Optimizer)]
        return next(base for base in bases if not issubclass(base, Dropin))

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, *args: Any, **kwargs: Any) -> float | None:
        """Perform a single optimization step.

        Parameters
        ----------
        closure : callable, optional
            Reevaluates the model and returns the loss.
        """
        if is_compiling():
            setattr(_marks, _mark(self), True)
            return type(self)._watched_torch_step(self, *args, **kwargs)  # type: ignore[no-any-return]
        if _compiled:
            _compiled.pop(_mark(self), None)
        gatherer = self._gatherer
        if gatherer is None:
            gatherer = self._gatherer = self._make_gatherer()
        cls = type(self)
        if gatherer.is_watched(self) and cls.step is cls._plain_step:  # else what is around it has been watched
            return cls._watched_step(self, *args, **kwargs)  # type: ignore[no-any-return]
        if args or kwargs:
            return cls._closure_step(self, *args, **kwargs)  # type: ignore[no-any-return]
        gatherer.step(self)
        return None

    step.hooked = True  # type: ignore[attr-defined]  # torch is not to wrap it: it calls hooks by itself

    def fallbacks(self) -> list[Fallback]:
        """What torch stepped itself in the last step, with the reasons.

        Returns
        -------
        list of Fallback
            Empty where instep stepped every parameter that has a gradient, and before the first step.
        """
        if _mark(self) in _compiled:
            return [Fallback(group, None, None, "the step was compiled") for group in range(len(self.param_groups))]
        return [] if self._gatherer is None else [Fallback(*each) for each in self._gatherer.refused]

    def _why_never(self) -> str | None:
        """Why torch is to take every step."""
        theirs = self._theirs()
        for name in _CALLED:
            ours = getattr(self, name, None)
            if getattr(ours, "__func__", ours) is not getattr(theirs, name, None):
                return f"{type(self).__name__} has a {name} of its own"
        return None

    def _make_gatherer(self) -> _torch.Gatherer:
        theirs = counterpart(self._here, self._framework)
        parameters = inspect.signature(self._theirs()).parameters
        by_name = {name: key if isinstance(key, str) else key[0] for name, key in theirs.dialect.names.items()}
        names = {  # of the dialect, those that this torch has
            name: theirs.dialect.names[name]
            for name, key in by_name.items()
            if key in parameters or key in self.defaults
        }
        keys = {by_name[name] for name in names}
        fixed = {
            name: parameter.default
            for name, parameter in parameters.items()
            if name not in keys and name not in _WAYS and name != "params" and parameter.kind not in _ANY_NAMES
        }
        fixed |= {name: value for name, value in theirs.preset.items() if name in self.defaults and name not in keys}
        language = _torch.Language(
            self._here.rule,
            theirs.preset,
            names,
            fixed,
            dict(theirs.dialect.states),
            self._counter,
            self._reads_tensors,
            IDLE_WITHOUT,
        )
        return _torch.Gatherer(language, type(self)._step_by_torch, self._why_never())

    def _step_by_torch(self, indices: Mapping[int, list[int] | None]) -> None:
        """Let torch step these parameters of these groups; None is all of a group."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part.param_groups = [
            group if chosen is None else {**group, "params": [group["params"][k] for k in chosen]}
            for group, chosen in ((self.param_groups[g], indices[g]) for g in sorted(indices))
        ]
        type(self)._torch_step(part)


def _step(self: Dropin, closure: Callable[[], float] | None = None) -> float | None:
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    assert self._gatherer is not None
    self._gatherer.step(self)
    return loss
