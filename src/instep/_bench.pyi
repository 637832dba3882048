from typing import Any

import numpy as np

from ._core import Options

class Walk:
    def __init__(
        self,
        options: Options,
        params: list[np.ndarray[Any, Any]],
        grads: list[np.ndarray[Any, Any]],
        states: dict[str, list[np.ndarray[Any, Any]]],
        isa: str | None = None,
    ) -> None: ...
    def seconds(self, loop: str, threads: int, repeats: int) -> float: ...
