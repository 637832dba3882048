"""Options by place: some arrays have others than the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._core import some
from .checkpoint.state_dict import spell_path

if TYPE_CHECKING:
    from .optimizers import Optimizer


class Group:
    """The options of the arrays whose place matches a pattern: read and assigned as those of the optimizer are.

    What a group does not change follows the optimizer's option.  A state that is loaded brings its own groups: where it
    has none of this pattern, to read or assign options here is a RuntimeError.
    """

    __slots__ = ("_optimizer", "_pattern")
    _optimizer: Optimizer
    _pattern: str

    def __init__(self, optimizer: Optimizer, pattern: str) -> None:
        object.__setattr__(self, "_optimizer", optimizer)
        object.__setattr__(self, "_pattern", pattern)

    @property
    def changes(self) -> dict[str, float | bool]:
        """What the group has of its own, by name."""
        found = self._optimizer._patterns.get(self._pattern)
        if found is None:
            raise _gone(self._pattern)
        return found

    @property
    def options(self) -> dict[str, float | bool]:
        """Every option with its value for these arrays, by name."""
        return self._optimizer.options | self.changes

    def __getattr__(self, name: str) -> float | bool:
        options = self.options
        if name not in options:
            raise AttributeError(_unknown(self._optimizer, name))
        return options[name]

    def __setattr__(self, name: str, value: float | bool) -> None:
        if name not in self._optimizer.options:
            raise AttributeError(_unknown(self._optimizer, name))
        try:
            self._optimizer._set_options({name: value}, self._pattern)
        except KeyError:
            raise _gone(self._pattern) from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._optimizer.options})

    def __repr__(self) -> str:
        found = self._optimizer._patterns.get(self._pattern)
        if found is None:
            return f"Group({self._pattern!r}, gone)"
        return f"Group({', '.join([repr(self._pattern), *(f'{name}={value!r}' for name, value in found.items())])})"


def _gone(pattern: str) -> RuntimeError:
    return RuntimeError(f"the optimizer has no group {pattern!r} any more: the state that was loaded has other groups")


def _unknown(optimizer: Optimizer, name: str) -> str:
    from .dialects import unknown_option

    return unknown_option(type(optimizer), name)


def checked(optimizer: Optimizer, groups: Any) -> dict[str, dict[str, Any]]:
    """The groups as they are given, if they are patterns with options."""
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        raise TypeError(f"groups must be a dict of patterns with the options that they change, not {groups!r:.80}")
    for pattern, changes in groups.items():
        if not isinstance(pattern, str):
            raise TypeError(f"groups: a pattern must be a str such as '*/bias', not {pattern!r:.200}")
        if not isinstance(changes, Mapping):
            raise TypeError(f"groups[{pattern!r:.200}] must be a dict of options, not {changes!r:.80}")
        for name in changes:
            if name not in optimizer._defaults:
                raise TypeError(f"groups[{pattern!r:.200}]: {_unknown(optimizer, name)}")
    return {pattern: dict(changes) for pattern, changes in groups.items()}


def options_of_arrays(
    paths: list[tuple[Any, ...]], options: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The options of each array, with what its group changes."""
    of_groups = [dict(options), *({**options, **changes} for changes in groups.values())]
    return [of_groups[k] for k in members(paths, groups)]


def members(paths: list[tuple[Any, ...]], groups: Mapping[str, Any]) -> list[int]:
    """The group of each array: 0 if none, k if the k-th pattern matches its place."""
    member = [0] * len(paths)
    if not groups:
        return member
    from fnmatch import fnmatchcase
    from glob import escape

    places = [spell_path(path, "for groups") for path in paths]
    patterns = list(groups)
    for number, pattern in enumerate(patterns, 1):
        matched = [k for k, place in enumerate(places) if fnmatchcase(place, pattern)]
        if not matched and pattern in places:
            raise ValueError(
                f"groups[{pattern!r:.200}] matches no array, for [ begins a set of characters in a pattern: "
                f"glob.escape gives {escape(pattern)!r:.200}, which is that place alone"
            )
        if not matched:
            raise ValueError(f"groups[{pattern!r:.200}] matches no array; there are {some(places)}")
        for k in matched:
            if member[k]:
                raise ValueError(
                    f"groups[{pattern!r:.200}] and groups[{patterns[member[k] - 1]!r}] both match {places[k]!r}: "
                    "an array is in one group at most"
                )
            member[k] = number
    return member
