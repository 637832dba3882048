"""The optimizers of ``torch.optim``, whose steps instep takes where the parameters lie.

Each class is a subclass of torch's of the same name: its arguments, parameter groups and states are torch's.  What
instep does not step, torch does, and ``fallbacks`` says why.
"""

try:
    from torch import __version__ as _version
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "instep.torch has the optimizers of torch, which is not installed: pip install torch (the extra torch)",
        name="torch",
    ) from None

if tuple(map(int, _version.split(".")[:2])) < (2, 4):
    raise ImportError(f"instep.torch needs torch 2.4 or later, and this is {_version}: pip install -U torch")

from .dropin import Fallback
from .optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop, Rprop

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Fallback", "RMSprop", "Rprop"]
