"""The frameworks, a module each: how they have the rules.

A module has ``DIALECTS``, a `Dialect` for each framework and rule that it speaks of, by the name of the framework and
that of the rule or of its variant.  What a framework does not have a Dialect for, it does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .._core import Options, rules

if TYPE_CHECKING:
    from ..optimizers import Optimizer

MODULES = ("torch", "keras", "optax", "others")

# An option's name in a framework, or that of a tuple of which it is an item: ("betas", 0).
Name = str | tuple[str, int]
# An option of ours that is given, and whether as anything but 0 and False.
Given = tuple[str, bool]

# Of a word that is offered for another: how alike they are, as difflib counts it.  At less, "fused" is near "seed".
NEAR = 0.76

_TORCHS_WAY = "chooses among several implementations, of which there is one here"
# Options of torch that say nothing of the formula.
TORCHS_OWN = {
    "fused": _TORCHS_WAY,
    "foreach": _TORCHS_WAY,
    "capturable": "lets CUDA graphs capture a step, and instep steps on the CPU",
    "differentiable": "lets autograd differentiate through a step, which instep does not do",
}

# What is no option of an optimizer there, or means another number, and what it is in every class here.
ELSEWHERE = {
    "max_norm": "torch's clip_grad_norm_ and optax's clip_by_global_norm call it max_norm; here it is clip_global_norm",
    "max_delta": "optax's clip calls it max_delta; here it is clip_value",
    "use_ema": "keras calls it use_ema; here there is an average of the parameters where average_decay is not 0",
    "ema_momentum": "keras calls it ema_momentum; here it is average_decay",
    "loss_scale_factor": "keras calls it loss_scale_factor; here it is 1 / grad_scale",
    "gradient_accumulation_steps": "keras calls it gradient_accumulation_steps; here accumulate sums gradients, and "
    "grad_scale makes a mean of the sum",
}

_NONE: Mapping[Any, Any] = MappingProxyType({})


class Dialect(NamedTuple):
    """How a framework has a rule."""

    # What its defaults mean here, where that differs from our own; lr only where it has a default for it.
    preset: dict[str, Any]
    # Its options by our names, the items of a tuple in their order.  One that is not here it does not have.
    names: Mapping[str, Name]
    # Its state arrays by our names, a minus before those of the other sign; only for frameworks that runs move to and
    # from, or that `instep.torch` steps in.
    states: Mapping[str, str] = _NONE
    # Those of our options that may be None there; it means what the preset says.
    optional: tuple[str, ...] = ()
    # What an option means beside itself when it is given.
    implied: Mapping[Given, dict[str, Any]] = _NONE
    # What it refuses or ignores, in words; but not an option that is implied by another.
    refused: Mapping[Given, str] = _NONE
    # Its options of what surrounds the formula, likewise; every rule of a framework has the same.
    around: Mapping[str, Name] = _NONE
    # Those that it says in another way, which its module reads and writes.
    otherwise: tuple[str, ...] = ()

    @property
    def all_names(self) -> dict[str, Name]:
        """Of the formula and around it."""
        return {**self.names, **self.around}


Dialects = dict[str, dict[str, Dialect]]


@cache
def dialects() -> Dialects:
    """All of them, by framework and rule."""
    found: Dialects = {}
    for module in MODULES:
        found |= import_module(f".{module}", __name__).DIALECTS
    return found


def presets(rule: str) -> dict[str, dict[str, Any]]:
    """The dialects of a rule, which its class takes as `Optimizer.preset`.

    Parameters
    ----------
    rule : str
        ``"rmsprop"``, ``"adamw"``, ...: the name of the function.

    Returns
    -------
    dict
        Every option of the formula with its value, by the name of the framework; a new one, yours to change.  Those
        around the formula, from `grad_scale` to `seed`, are the same whatever the framework.  ``lr`` is missing from
        those whose framework has no default for it.  A few depend on what they are overridden with:
        ``tf_keras_legacy`` has `eps_inside` exactly when it has momentum; centered ``mxnet1`` and ``mxnet2`` have
        Graves' ``eps_inside=True, momentum=0.9, lr_in_momentum=True``; ``sklearn`` has no `nesterov` without momentum;
        ``optax`` takes AMSGrad's maximum of the corrected averages.

    Raises
    ------
    ValueError
        There is no such rule.

    Examples
    --------
    >>> import instep
    >>> {name: options["eps"] for name, options in instep.presets("adagrad").items()}
    {'torch': 1e-10, 'keras': 1e-07, 'optax': 1e-07, 'mlx': 1e-08}
    """
    if not isinstance(rule, str) or rule not in family():
        raise ValueError(choose(f"there is no rule {rule!r:.60}", str(rule), "there are", family()))
    of_formula = Options(family()[rule].rule).of_formula
    return {
        framework: {name: value for name, value in default_options(rule, framework).items() if name in of_formula}
        for framework in _dialects_of_rule(rule)
    }


def default_options(rule: str, framework: str) -> dict[str, Any]:
    """Every option of a rule in a dialect, those around the formula too."""
    defaults = family()[rule]._defaults
    return {name: value for name, value in defaults.items() if name != "lr"} | dialects()[framework][rule].preset


def preset_options(cls: type[Optimizer], framework: str, given: dict[str, Any]) -> dict[str, Any]:
    """Every option of a class in a dialect, overridden with those given under either name.

    The class's own defaults do not count, for it may be a subclass that has redeclared some.
    """
    known = _dialects_of(cls)
    if not isinstance(framework, str):
        called = f"{cls.__name__}.preset({next(iter(known), 'name')!r}, params)"
        raise TypeError(
            f"the name of the framework comes first, as in {called}; here it is a value of type "
            f"{type(framework).__name__}"
        )
    if framework not in known:
        raise ValueError(choose(f"{cls.__name__} has no preset {framework!r:.60}", framework, "it has", known))
    dialect = known[framework]
    ours = translated(cls, framework, given)
    checked = Options(cls.rule).replace(ours, ()).values()
    options = {name: checked[name] for name in ours}
    implied: dict[str, Any] = {}
    for name, value in options.items():
        implied |= dialect.implied.get((name, bool(value)), {})
    for name, value in options.items():
        if (name, bool(value)) in dialect.refused and name not in implied:
            raise ValueError(f"preset {framework!r}: the framework {dialect.refused[name, bool(value)]}")
    merged = default_options(_rule_of(cls), framework) | implied | options
    if "lr" not in merged:
        raise TypeError(f"preset {framework!r} needs lr: the framework has no default for it")
    return merged


def translated(cls: type[Optimizer], framework: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options under our names, without those that are None where the framework lets them be."""
    dialect = _dialects_of(cls)[framework]
    theirs = _our_names(dialect.all_names)
    options: dict[str, Any] = {}
    for name, value in given.items():
        names = [name] if name in cls._defaults else theirs.get(name)
        if names is None:
            raise TypeError(unknown_option(cls, name, framework))
        values = [value] if len(names) == 1 else _items(name, value, names)
        for ours, item in zip(names, values, strict=True):
            if ours in options:
                raise TypeError(f"{ours} is given twice, as {framework} calls it and as it is called here")
            options[ours] = item
    return {name: value for name, value in options.items() if value is not None or name not in dialect.optional}


def _items(name: str, value: Any, names: list[str]) -> list[Any]:
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        raise TypeError(f"{name} must be a tuple of {' and '.join(names)}, not {value!r:.60}")
    return list(value)


def unknown_option(cls: type[Optimizer], name: str, framework: str | None = None) -> str:
    """What to say of an option that neither the class nor the framework has: who calls it so, or what is meant."""
    known = _dialects_of(cls)
    names = [*cls._defaults, *(_our_names(known[framework].all_names) if framework is not None else ())]
    start = f"{cls.__name__} has no option {name!r:.80}"
    return f"{start}: {ELSEWHERE[name]}" if name in ELSEWHERE else _unknown(start, name, names, known)


def unknown_argument(function: str, name: str, names: Iterable[str]) -> str:
    """What to say of an argument that the function of a rule does not have."""
    start = f"{function}() has no argument {name!r:.80}"
    cls, known = family()[function], _dialects_of_rule(function)
    if name in cls._defaults:
        return f"{start}: it is an option of the class {cls.__name__}"
    of_class = ELSEWHERE.get(name) or _called_here(known, name, cls._defaults.keys() - {*names})
    return f"{start}: {of_class}, with the class {cls.__name__}" if of_class else _unknown(start, name, names, known)


def called_here(rule: str, name: str, spelled: Callable[[str], str]) -> str | None:
    """Who calls an option of the rule so and what it, or its tuple, is here; None where nobody does."""
    return _called_here(_dialects_of_rule(rule), name, Options(family()[rule].rule).of_formula, spelled)


class Foreign:
    """A framework's name for an option, as an attribute that there is not: who asks for it is told what it is here.

    A ``__getattr__`` would cost every other attribute something.  A subclass may declare one of this name.
    """

    def __init__(self, name: str, answer: str) -> None:
        self.name = name
        self.__doc__ = answer

    def __get__(self, optimizer: Optimizer | None, cls: type[Optimizer]) -> NoReturn:
        raise AttributeError(f"{cls.__name__} has no option {self.name!r}: {self.__doc__}")

    def __set__(self, optimizer: Optimizer, value: object) -> NoReturn:
        self.__get__(optimizer, type(optimizer))


def answer_readers() -> None:
    """Put a `Foreign` into each class for every name that a framework has for an option of it."""
    for rule, cls in family().items():
        answers = dict(ELSEWHERE)
        for framework, theirs in _spoken_anywhere(_dialects_of_rule(rule)):
            for name, ours in theirs.items():
                if name not in answers and all(option in cls._defaults for option in ours):
                    answers[name] = _sentence(framework, name, ours)
        for name, answer in answers.items():
            if not any(name in vars(base) for base in cls.__mro__):
                setattr(cls, name, Foreign(name, answer))


def foreign_names() -> set[str]:
    """What any framework calls an option of the formula of any rule."""
    return {name for spoken in dialects().values() for dialect in spoken.values() for name in _our_names(dialect.names)}


def _called_here(
    known: dict[str, Dialect], name: str, names: Iterable[str], spelled: Callable[[str], str] = str
) -> str | None:
    """Only of what is among `names`."""
    names = set(names)
    for framework, theirs in _spoken_anywhere(known):
        ours = theirs.get(name)
        if ours is not None and names.issuperset(ours):
            return _sentence(framework, name, map(spelled, ours))
    return None


def _sentence(framework: str, name: str, ours: Iterable[str]) -> str:
    return f"{framework} calls it {name}; here it is {' and '.join(ours)}"


def _spoken(known: dict[str, Dialect]) -> dict[str, dict[str, list[str]]]:
    """Our options by their names in each framework, one without the rule too: it has the same around those it has."""
    return {
        framework: _our_names(known[framework].all_names if framework in known else next(iter(spoken.values())).around)
        for framework, spoken in dialects().items()
    }


def _spoken_anywhere(known: dict[str, Dialect]) -> list[tuple[str, dict[str, list[str]]]]:
    """The same, and then what frameworks call the options of other rules, for of Yogi hardly any speaks."""
    return [*_spoken(known).items(), *_spoken_of_any_rule()]


@cache
def _spoken_of_any_rule() -> list[tuple[str, dict[str, list[str]]]]:
    return [
        (framework, _our_names(dialect.names))
        for framework, spoken in dialects().items()
        for dialect in spoken.values()
    ]


def _unknown(start: str, name: str, names: Iterable[str], known: dict[str, Dialect]) -> str:
    if name in TORCHS_OWN:
        return f"{start}: leave it out; in torch it {TORCHS_OWN[name]}"
    found = _called_here(known, name, names)
    if found:
        return f"{start}: {found}"
    return choose(start, name, "it has", names)


def choose(start: str, name: str, there_are: str, names: Iterable[str]) -> str:
    """A sentence that ends with the names that there are, the closest first and as a question, if one is close."""
    from difflib import get_close_matches

    spelled = {candidate.lower(): candidate for candidate in names}
    close = get_close_matches(name.lower(), spelled, n=1, cutoff=NEAR)
    listed = f"{there_are} {', '.join(spelled.values())}"
    if not close:
        return f"{start}; {listed}"
    return f"{start}: did you mean {spelled[close[0]]}? {listed[0].upper()}{listed[1:]}"


def _our_names(names: Mapping[str, Name]) -> dict[str, list[str]]:
    """Our options by their name in the framework: several where that is a tuple's."""
    found: dict[str, list[str]] = {}
    for ours, theirs in names.items():
        found.setdefault(theirs if isinstance(theirs, str) else theirs[0], []).append(ours)
    return found


def _dialects_of(cls: type[Optimizer]) -> dict[str, Dialect]:
    return _dialects_of_rule(_rule_of(cls))


def _dialects_of_rule(rule: str) -> dict[str, Dialect]:
    return {framework: spoken[rule] for framework, spoken in dialects().items() if rule in spoken}


def _rule_of(cls: type[Optimizer]) -> str:
    """The name of the rule, or of the variant, that a class is or is made of."""
    names = {public: name for name, public in family().items()}
    return next((names[base] for base in cls.__mro__ if base in names), cls.rule)


@cache
def family() -> dict[str, type[Optimizer]]:
    """Every rule's class, and every variant's, by the name of its function, in the order of the roll-call."""
    import instep

    from ..optimizers import Optimizer

    order = list(rules())
    found = [
        cls
        for cls in vars(instep).values()
        if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
    ]
    return {cls.__name__.lower(): cls for cls in sorted(found, key=lambda cls: order.index(cls.rule))}
