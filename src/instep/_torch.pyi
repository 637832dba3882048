from collections.abc import Callable, Mapping
from typing import Any

def count_a_fork() -> None: ...
def read_within(table: bool, functions: bool) -> tuple[bool, bool]: ...

class Language:
    def __init__(
        self,
        rule: str,
        options: dict[str, float | bool],
        names: dict[str, Any],
        fixed: dict[str, Any],
        states: dict[str, str],
        counter: type | None,
        reads_tensors: bool,
        needs: Mapping[str, str],
    ) -> None: ...

class Gatherer:
    refused: list[tuple[int, int | None, str | None, str]]
    def __init__(self, language: Language, by_torch: Callable[..., None], why_never: str | None) -> None: ...
    def is_watched(self, optimizer: Any) -> bool: ...
    def step(self, optimizer: Any) -> None: ...
