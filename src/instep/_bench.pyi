from typing import Any

import numpy as np

class Walk:
    def __init__(
        self,
        params: list[np.ndarray[Any, Any]],
        grads: list[np.ndarray[Any, Any]],
        square_avgs: list[np.ndarray[Any, Any]],
        isa: str | None = None,
    ) -> None: ...
    def seconds(self, loop: str, threads: int, repeats: int) -> float: ...
