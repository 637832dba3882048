"""Ten steps of every class with every set of options that torch lists, beside torch's own class."""

import pytest

from drop_ins import PAIRS, assert_close, assert_equal, every_input, fill, options_of, params, tensors_of, torch

CASES = [pytest.param(name, given, id=f"{name}-{given}") for name in PAIRS for given in every_input(name)]

# Where torch steps itself, whatever the parameters.
BY_TORCH = {"centered", "differentiable", "capturable", "caution"}
NO_TENSOR_LR = {"Adam", "AdamW", "Adagrad", "RMSpropTF"}  # torch computes with the tensor


def is_by_torch(name, group):
    if name in NO_TENSOR_LR and isinstance(group["lr"], torch.Tensor):
        return True
    return bool(BY_TORCH & {key for key, value in group.items() if value is True})


def walk(cls, given, dtype, steps=10):
    parameters = params(dtype)
    optimizer = cls(parameters, **options_of(given))
    found = []
    for k in range(steps):
        fill(parameters, seed=k)
        if k % 3 == 2:
            parameters[1].grad = None
        optimizer.step()
        if hasattr(optimizer, "fallbacks"):
            assert bool(optimizer.fallbacks()) == is_by_torch(cls.__name__, optimizer.param_groups[0])
        if k == 5:
            optimizer.param_groups[0]["lr"] = 3e-3
        found += tensors_of(optimizer, parameters)
    return found, optimizer


@pytest.mark.parametrize(("name", "given"), CASES)
def test_float64(name, given, reader):
    ours, theirs = (walk(cls, given, torch.float64) for cls in PAIRS[name])
    assert_close(ours[0], theirs[0])
    assert ours[1].param_groups[0].keys() == theirs[1].param_groups[0].keys()


@pytest.mark.parametrize(("name", "given"), CASES)
def test_float32(name, given):
    """As far apart as ten steps of single precision may be."""
    ours, theirs = (walk(cls, given, torch.float32) for cls in PAIRS[name])
    assert_close(ours[0], theirs[0], rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("way", ["foreach", "fused"])
def test_other_ways_of_torch(name, way):
    """They are ways to compute the same, and this is another."""
    cls, theirs = PAIRS[name]
    try:
        expected = walk(theirs, {way: True}, torch.float64)
    except TypeError:
        return  # torch has none
    found = walk(cls, {way: True}, torch.float64)
    assert_close(found[0], expected[0])
    assert not found[1].fallbacks()


@pytest.mark.parametrize("name", PAIRS)
def test_where_torch_steps_it_is_torch(name):
    """To the bit: with options that instep refuses, in one group of two."""
    refused = {"SGD": {"lr": -1.0}, "Rprop": {"step_sizes": (50, 1e-6)}}.get(name, {"eps": 0.0})

    def run(cls):
        parameters = params()
        optimizer = cls([{"params": parameters[:2]}, {"params": parameters[2:]}])
        optimizer.param_groups[1].update(refused)
        for k in range(4):
            fill(parameters, seed=k)
            optimizer.step()
        return optimizer, parameters

    (ours, mine), (_, others) = (run(cls) for cls in PAIRS[name])
    assert_equal([p.detach() for p in mine[2:]], [p.detach() for p in others[2:]])
    assert_close([p.detach() for p in mine[:2]], [p.detach() for p in others[:2]])
    assert {fallback.group for fallback in ours.fallbacks()} == {1}
    (key,) = refused
    assert all(fallback.reason.startswith(f"{key}=") for fallback in ours.fallbacks())
