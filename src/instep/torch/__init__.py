"""The optimizers of ``torch.optim``, whose steps instep takes where the parameters lie."""

try:
    import torch as _torch  # noqa: F401  # whether it is there
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        'instep.torch has the optimizers of torch, which is not installed: pip install "instep[torch]"', name="torch"
    ) from None

from .dropin import Fallback
from .optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop, Rprop

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Fallback", "RMSprop", "Rprop"]
