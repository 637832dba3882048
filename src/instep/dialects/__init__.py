"""The frameworks, a module each: how they have the rules.

A module has ``DIALECTS``, a `Dialect` for each framework and rule that it speaks of, by the name of the framework and
that of the rule or of its variant.  What a framework does not have a Dialect for, it does not have.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from .._core import rules

if TYPE_CHECKING:
    from ..optimizers import Optimizer

MODULES = ("torch", "keras", "optax", "others")

# An option's name in a framework, or that of a tuple of which it is an item: ("betas", 0).
Name = str | tuple[str, int]


class Dialect(NamedTuple):
    """How a framework has a rule."""

    # What its defaults mean here, where that differs from our own; lr only where it has a default for it.
    preset: dict[str, Any]
    # Its options by our names.  One that is not here it does not have.
    names: dict[str, Name]
    # Its state arrays by our names, a minus before those of the other sign; only for frameworks that runs move to and
    # from.
    states: dict[str, str] = {}
    # What an option means beside itself when it is given.
    implied: dict[str, dict[str, Any]] = {}
    # Options that it has, but refuses or ignores: why.
    refused: dict[str, str] = {}
    # Without which option of ours it refuses or ignores another.
    needs: dict[str, tuple[str, str]] = {}


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
        Every option's value by the name of the framework; a new one, yours to change.  ``lr`` is missing from those
        whose framework has no default for it.  A few depend on what they are overridden with: ``tf_keras_legacy`` has
        `eps_inside` exactly when it has momentum, centered ``mxnet1`` and ``mxnet2`` have Graves' ``eps_inside=True,
        momentum=0.9, lr_in_momentum=True``, and optax takes AMSGrad's maximum of what has been corrected.

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
    defaults = _classes()[_known_rule(rule)]._defaults
    return {
        framework: {name: value for name, value in defaults.items() if name != "lr"} | spoken[rule].preset
        for framework, spoken in dialects().items()
        if rule in spoken
    }


def preset_options(cls: type[Optimizer], framework: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a class in a dialect, overridden with those given under either name."""
    rule = _rule_of(cls)
    spoken = [name for name, by_rule in dialects().items() if rule in by_rule]
    if framework not in spoken:
        hint = "; its name comes first, then the params" if not isinstance(framework, str) else ""
        raise ValueError(f"{cls.__name__} has no preset {framework!r:.60}; it has {', '.join(spoken)}{hint}")
    dialect = dialects()[framework][rule]
    options = translated(cls, framework, given)
    for name, value in options.items():
        needed, verb = dialect.needs.get(name, ("", ""))
        if value and name in dialect.refused:
            raise ValueError(f"preset {framework!r}: the framework {dialect.refused[name]} {name}")
        if value and needed and not options.get(needed):
            raise ValueError(f"preset {framework!r}: the framework {verb} {name} unless {needed}")
        if value == 0 and name == "rho" and "rho=0" in dialect.refused:
            raise ValueError(f"preset {framework!r}: the framework {dialect.refused['rho=0']} rho=0")
    implied = {key: value for name in options if options[name] for key, value in dialect.implied.get(name, {}).items()}
    merged = dialect.preset | implied | options
    if "lr" not in merged:
        raise TypeError(f"preset {framework!r} needs lr: the framework has no default for it")
    return merged


def translated(cls: type[Optimizer], framework: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options under our names; what the framework gives as None is left out, for it means none."""
    theirs: dict[str, list[tuple[str, Name]]] = {}
    for ours, name in dialects()[framework][_rule_of(cls)].names.items():
        theirs.setdefault(name if isinstance(name, str) else name[0], []).append((ours, name))
    options: dict[str, Any] = {}
    for key, value in given.items():
        if key in cls._defaults:
            found = {key: value}
        elif key in theirs:
            found = {ours: value if isinstance(name, str) else value[name[1]] for ours, name in theirs[key]}
        else:
            raise TypeError(unknown_option(cls, key))
        for name, item in found.items():
            if name in options:
                raise TypeError(f"{name} is given twice, once in the words of {framework}")
            if item is not None:
                options[name] = item
    return options


def unknown_option(cls: type[Optimizer], name: str) -> str:
    """What to say of an option that the class does not have: in whose words it is, or what is meant."""
    for framework, spoken in dialects().items():
        dialect = spoken.get(_rule_of(cls))
        for ours, theirs in dialect.names.items() if dialect else ():
            if name == (theirs if isinstance(theirs, str) else theirs[0]):
                pair = [key for key, item in dialect.names.items() if item[0] == name] if dialect else []
                here = " and ".join(pair) if not isinstance(theirs, str) else ours
                return f"{cls.__name__} has no option {name!r}: {framework} calls it so; here it is {here}"
    from difflib import get_close_matches

    meant = "".join(f": is {close} meant?" for close in get_close_matches(name, cls._defaults, n=1))
    return f"{cls.__name__} has no option {name!r}{meant or ';'} it has {', '.join(cls._defaults)}"


@cache
def _classes() -> dict[str, type[Optimizer]]:
    """The public classes by the name of their function."""
    import instep

    from ..optimizers import Optimizer

    found = [vars(instep)[name] for name in instep.__all__]
    return {
        cls.__name__.lower(): cls
        for cls in found
        if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
    }


def _known_rule(rule: str) -> str:
    if rule not in _classes():
        raise ValueError(f"there is no rule {rule!r:.60}; there are {', '.join(_classes())}")
    return rule


def _rule_of(cls: type[Optimizer]) -> str:
    """The name of the public class that it is, or is made of."""
    return next(base.__name__.lower() for base in cls.__mro__ if base in _classes().values())
