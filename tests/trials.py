"""What every rule is tried with: all options that go together, hard numbers, and the bits to compare."""

from itertools import product

import numpy as np

import instep
from instep._core import Options, rules
from instep.optimizers import Optimizer

# What an option is tried with, by its range: two values of those that may be 0 or on, one of the others.
NUMBERS = {
    "any size": [0.0, 0.03],
    "decay": [0.9],
    "fraction": [0.6],
    "growth": [1.3],
    "flag": [False, True],
}
CLASSES = {optimizer.rule: optimizer for optimizer in map(Optimizer.of_rule, rules())}


def tried_values(rule, name):
    """The values that every combination of options is made of."""
    default, span = Options(rule).values()[name], Options(rule).ranges[name]
    if name == "lr":
        return [0.003]
    if name.startswith("initial_"):  # which only makes states
        return [default]
    if span == "positive":
        return [default * 1000]  # an eps that counts
    values = [0.0, 0.7] if span == "decay" and default == 0 else NUMBERS[span]
    return values if len(values) == 1 or default in values else [default, *values]


def fits(rule, options, dtype="float32"):
    try:
        Options(rule).replace(options, (np.dtype(dtype),))
    except ValueError:
        return False
    return True


def combinations(rule):
    """Every combination of options that the rule accepts."""
    names = Options(rule).values()
    tried = [tried_values(rule, name) for name in names]
    every = (dict(zip(names, values, strict=True)) for values in product(*tried))
    return [options for options in every if fits(rule, options)]


def one_of_each_loop(rule):
    """As few combinations as reach every loop, times the three ways to prepare a gradient."""
    seen = {}
    names = [name for name in Options(rule).values() if getattr(CLASSES[rule], name).is_structural]
    for options in combinations(rule):
        prepared = bool(options["weight_decay"]), options["decoupled_weight_decay"], options["maximize"]
        loop = tuple(states_of(rule, options)), tuple(bool(options[name]) for name in names), prepared
        seen.setdefault(loop, options)
    return list(seen.values())


def states_of(rule, options):
    return Options(rule).replace(options, ()).states


def function(rule):
    return getattr(instep, rule)


def twin(rule):
    return getattr(instep.reference, rule)


def hard(random, shape, dtype):
    """Half normal numbers, a quarter raw bit patterns, an eighth subnormals, an eighth specials."""
    limits = np.finfo(dtype)
    unsigned = np.dtype(f"u{limits.bits // 8}")
    with np.errstate(over="ignore"):
        normal = (random.standard_normal(shape) * 10.0 ** random.uniform(-6, 6, shape)).astype(dtype)
    raw = random.integers(0, np.iinfo(unsigned).max, shape, unsigned, endpoint=True).view(dtype)
    subnormal = random.integers(1, 1 << limits.nmant, shape, unsigned).view(dtype)
    subnormal = np.where(random.random(shape) < 0.5, subnormal, -subnormal)
    specials = [np.inf, -np.inf, np.nan, 0.0, -0.0, limits.max, limits.min, limits.tiny, -limits.tiny, 1.0]
    special = random.choice(np.array(specials, dtype), shape)
    return np.choose(random.choice([0, 0, 0, 0, 1, 1, 2, 3], shape), [normal, raw, subnormal, special])


def hard_arrays(random, rule, options, shape, dtype):
    """Hard numbers for the parameter, the gradient and every state, by name."""
    arrays = {name: hard(random, shape, dtype) for name in ("param", "grad", *states_of(rule, options))}
    for name in states_of(rule, options):  # a negative average is a NaN at once, which would hide the rest
        positive = random.random(shape) < 0.8
        arrays[name] = np.where(positive, np.abs(arrays[name]), arrays[name])
    return arrays


def copies(arrays):
    return {name: array.copy("K") for name, array in arrays.items()}


def expected(rule, options, arrays, step_count=1):
    """The arrays after a step of the twin."""
    after = copies(arrays)
    twin(rule)(**after, step_count=step_count, **options)
    return after


def differing(a, b):
    """Where two arrays have other bits, payloads and signs of NaNs aside."""
    unsigned = f"u{a.itemsize}"
    with np.errstate(invalid="ignore"):
        nan = np.isnan(a) & np.isnan(b)
    other = np.ascontiguousarray(a).view(unsigned) != np.ascontiguousarray(b).view(unsigned)
    return np.flatnonzero(other & ~nan)


def assert_same_bits(actual, expected, situation=""):
    """Every array of two dicts of arrays; the gradients down to their payloads."""
    assert list(actual) == list(expected)
    for name in expected:
        assert actual[name].shape == expected[name].shape
        assert actual[name].dtype == expected[name].dtype
        if name == "grad":
            assert actual[name].tobytes() == expected[name].tobytes(), f"the gradient was written; {situation}"
        places = differing(actual[name], expected[name])
        if places.size:
            k = places[0]
            raise AssertionError(
                f"{name}: {places.size} of {actual[name].size} differ, first at {k}: {actual[name].flat[k]!r} "
                f"instead of {expected[name].flat[k]!r}; {situation}"
            )


class Placed:
    """An array at a chosen byte offset from a cache line, between guards that must stay as they are."""

    GUARD = 64
    FILL = 0xA5

    def __init__(self, size, dtype):
        self.memory = np.empty(size * np.dtype(dtype).itemsize + 3 * self.GUARD + 16, np.uint8)
        self.first = self.GUARD + -self.memory.ctypes.data % 64
        self.dtype = np.dtype(dtype)

    def put(self, values, offset):
        self.memory.fill(self.FILL)
        self.begin = self.first + offset
        self.end = self.begin + values.nbytes
        array = np.frombuffer(self.memory.data, self.dtype, values.size, self.begin)
        array[...] = values
        return array

    def guards_hold(self):
        return bool((self.memory[: self.begin] == self.FILL).all() and (self.memory[self.end :] == self.FILL).all())
