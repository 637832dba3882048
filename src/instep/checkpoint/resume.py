"""An optimizer from a checkpoint alone."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .._core import Nest
from ..optimizers import Optimizer


def load(path: str | os.PathLike[str], params: Any) -> Optimizer:
    """The optimizer that a checkpoint is of, over these parameters.

    Parameters
    ----------
    path : str or os.PathLike
        A file that `Optimizer.save` wrote.
    params : nesting of numpy.ndarray
        Of the places, shapes and dtypes that the params had.  Their values are not in the checkpoint.

    Returns
    -------
    Optimizer
        Of the class, the options, the state and the counts that were saved.

    Raises
    ------
    OSError
        The file could not be read.
    CheckpointError
        The file is not a checkpoint, is damaged, too large for one of these params, or was written by a newer instep.
    MemoryError
        There is no room for arrays of the size of these.
    TypeError, ValueError
        The checkpoint is sound, but of other params; or as for the class.

    Examples
    --------
    >>> import numpy as np, instep, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "run.checkpoint")
    >>> instep.RMSprop({"w": np.zeros(3)}, lr=0.5).save(path)
    >>> instep.load(path, {"w": np.zeros(3)}).options["lr"]
    0.5
    """
    from . import file  # not before it is needed: a step does without json and hashlib

    leaves: list[Any] = []
    Nest.of(params, leaves, [])
    state_dict = file.read(path, [leaf for leaf in leaves if isinstance(leaf, np.ndarray)])
    optimizer = Optimizer.of_rule(state_dict["rule"])(params, **state_dict["storage"])
    optimizer.load_state_dict(state_dict)
    return optimizer
