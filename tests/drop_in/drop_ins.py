"""The optimizers of instep.torch beside those whose place they take, and how far two runs are apart."""

import importlib
import importlib.metadata
import inspect
import sys
import types

import pytest

from peers import REQUIRED, peer

torch = peer("torch")
here = importlib.import_module("instep.torch")

if not REQUIRED:
    pytest.importorskip("expecttest")  # torch's list of inputs asks for it
OPTIM_DB = importlib.import_module("torch.testing._internal.common_optimizers").optim_db

# Their modules, without the packages around them, which import torchvision and gymnasium.
ELSEWHERE = {
    "RMSpropTF": ("timm", "timm.optim", "rmsprop_tf"),
    "RMSpropTFLike": ("stable_baselines3", "stable_baselines3.common.sb2_compat", "rmsprop_tf_like"),
}


def pair_from(name):
    """A class of ours that stands for one of another package, and that one; None if that is not installed."""
    distribution, package, module = ELSEWHERE[name]
    try:
        root = importlib.metadata.distribution(distribution.replace("_", "-")).locate_file("")
    except importlib.metadata.PackageNotFoundError:
        if REQUIRED:
            raise
        return None
    names = package.split(".")
    for k in range(len(names)):
        bare = types.ModuleType(".".join(names[: k + 1]))
        bare.__path__ = [str(root.joinpath(*names[: k + 1]))]
        sys.modules.setdefault(bare.__name__, bare)
    theirs = getattr(importlib.import_module(f"{package}.{module}"), name)
    return getattr(importlib.import_module(f"instep.torch.{distribution}"), name), theirs


PAIRS = {name: (getattr(here, name), getattr(torch.optim, name)) for name in here.__all__ if name != "Fallback"}
PAIRS |= {name: pair for name in ELSEWHERE if (pair := pair_from(name)) is not None}

# Beside what torch lists: its list has no options of classes from elsewhere, and not all of those that it has for GPUs.
MORE = {
    "RMSprop": [
        {"momentum": 0.9},
        {"momentum": 0.9, "weight_decay": 0.1, "maximize": True},
        {"lr": "tensor", "momentum": 0.5},
        {"alpha": 0.5, "eps": 1e-3},
    ],
    "SGD": [
        {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1, "maximize": True},
        {"momentum": 0.9, "nesterov": True, "lr": "tensor"},
        {"dampening": 0.5},  # which does nothing
    ],
    "Adam": [
        {"lr": "tensor"},
        {"amsgrad": True, "weight_decay": 0.1, "maximize": True},
        {"decoupled_weight_decay": True, "weight_decay": 0.1},
        {"betas": (0.5, 0.7), "eps": 1e-3},
        {"betas": (0.0, 0.0)},
    ],
    "AdamW": [{"lr": "tensor"}, {"amsgrad": True, "weight_decay": 0.3, "maximize": True}],
    "Adagrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1}, {"eps": 1e-3}],
    "Adadelta": [{"lr": "tensor", "rho": 0.5}, {"eps": 1e-3, "weight_decay": 0.1, "maximize": True}],
    "Rprop": [{"lr": "tensor"}, {"step_sizes": (1e-3, 0.1), "etas": (0.3, 1.7), "maximize": True}],
    "RMSpropTF": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "lr_in_momentum": False},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_decay": True, "momentum": 0.5},
        {"lr": "tensor"},
        {"centered": True},
        {"momentum": 0.9, "caution": True},
    ],
    "RMSpropTFLike": [{}, {"momentum": 0.9}, {"weight_decay": 0.1, "eps": 1e-3}, {"lr": "tensor"}, {"centered": True}],
}


def every_input(name):
    """What torch lists for the class on a processor, and what is listed here."""
    listed = [info.optim_inputs_func("cpu") for info in OPTIM_DB if info.optim_cls is PAIRS[name][1]]
    own = [given for given in MORE[name] if given.keys() <= inspect.signature(PAIRS[name][1]).parameters.keys()]
    return [dict(given.kwargs) for inputs in listed for given in inputs] + own


def options_of(given):
    """The options themselves: a tensor is made anew, for it may be changed."""
    return {key: torch.tensor(0.01) if isinstance(value, str) else value for key, value in given.items()}


def params(dtype=torch.float64, seed=0, shapes=((3, 4), (17,), (), (0, 3), (2, 3, 5, 4))):
    """Parameters of several shapes, the last of them in channels_last."""
    torch.manual_seed(seed)
    made = [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]
    return [*made, torch.nn.Parameter(torch.randn(2, 3, 4, 4, dtype=dtype).to(memory_format=torch.channels_last))]


def fill(parameters, seed=0):
    """New gradients, in the layout of their parameters."""
    generator = torch.Generator().manual_seed(seed)
    for param in parameters:
        grad = torch.randn(param.shape, dtype=torch.float64, generator=generator)
        param.grad = torch.empty_like(param).copy_(grad).detach()


def tensors_of(optimizer, parameters):
    """All that a step changes: parameters, then states in the order of the parameters."""
    found = [param.detach().clone() for param in parameters]
    for _, state in sorted(optimizer.state_dict()["state"].items()):
        found += [value.clone() if isinstance(value, torch.Tensor) else torch.tensor(value) for value in state.values()]
    return found


def assert_equal(ours, theirs):
    """Every bit."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert torch.equal(a.nan_to_num(nan=3.25), b.nan_to_num(nan=3.25))


def strides(tensor):
    """Those that say something."""
    return [stride for stride, length in zip(tensor.stride(), tensor.shape, strict=True) if length > 1]


def assert_close(ours, theirs, rtol=1e-12, atol=1e-14):
    """To `rtol` of what torch has; where terms cancel, to `atol` of the 1 or so that they are of."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert strides(a) == strides(b)
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
