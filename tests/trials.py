"""What every rule is tried with: all options that go together, hard numbers, and the bits to compare.

All of it comes from the registry: a new rule, a new option or a new state is tried without a line here.
"""

from functools import cache
from itertools import combinations as subsets
from itertools import product

import numpy as np

import instep
from instep._core import Options, rules
from instep.optimizers import Optimizer

# What an option is tried with, by its range: two values of those that may be 0, one of the others.
NUMBERS = {
    "any size": [0.0, 0.03],
    "positive": [1e-3],
    "decay": [0.9],
    "fraction": [0.6],
    "growth": [1.3],
    "flag": [False, True],
}
# What lies at the ends of each range, where options may contradict each other.
ENDS = {
    "any size": [0.0, 2.0],
    "positive": [0.5, 100.0],
    "decay": [0.0, 0.5],
    "fraction": [0.5],
    "growth": [1.5],
    "flag": [False, True],
}
# The rules that have all that the tests need to begin with; tests/test_house.py says what another one lacks.
CLASSES = {rule: Optimizer._of_rule[rule] for rule in rules() if rule in Optimizer._of_rule and hasattr(instep, rule)}


def defaults(rule):
    """The options of the formula; those of what surrounds it are tests/test_around.py's."""
    options = Options(rule)
    return {name: options.values()[name] for name in options.of_formula}


def tried_values(rule, name):
    """The values that every combination of options is made of."""
    default, span = defaults(rule)[name], ranges(rule)[name]
    if name == "lr":
        return [0.003]
    if name.startswith("initial_"):  # which only makes states
        return [default]
    if span == "positive":
        return [default * 1000]  # an eps that counts
    values = [0.0, 0.7] if span == "decay" and default == 0 else NUMBERS[span]
    return values if len(values) == 1 or default in values else [default, *values]


def ranges(rule):
    """What each of them may be."""
    return {name: span for name, span in Options(rule).ranges.items() if name in defaults(rule)}


def refusal(rule, options, dtype="float64"):
    """What is said of options that do not go together; None of those that do."""
    try:
        Options(rule).replace(options, (np.dtype(dtype),))
    except ValueError as error:
        return str(error)
    return None


def fits(rule, options, dtype="float32"):
    return refusal(rule, options, dtype) is None


@cache
def _combinations(rule):
    tried = [tried_values(rule, name) for name in defaults(rule)]
    every = (dict(zip(defaults(rule), values, strict=True)) for values in product(*tried))
    return [options for options in every if fits(rule, options)]


def combinations(rule):
    """Every combination of options that the rule accepts."""
    return [dict(options) for options in _combinations(rule)]


def structural(rule):
    """The options that choose the loop or what the states are."""
    return [name for name in defaults(rule) if getattr(CLASSES[rule], name).is_structural]


def one_of_each_loop(rule):
    """As few combinations as reach every loop, times the three ways to prepare a gradient."""
    seen = {}
    for options in combinations(rule):
        prepared = bool(options["weight_decay"]), options["decoupled_weight_decay"], options["maximize"]
        loop = tuple(states_of(rule, options)), tuple(bool(options[name]) for name in structural(rule)), prepared
        seen.setdefault(loop, options)
    return list(seen.values())


def structures(rule):
    """One combination for all that the structural options may be, with weight decay."""
    seen = {}
    for options in combinations(rule):
        if options["weight_decay"]:
            seen.setdefault(tuple(options[name] for name in structural(rule)), options)
    return list(seen.values())


def widest(rule):
    """Options with as many states as there may be."""
    return max(structures(rule), key=lambda options: len(states_of(rule, options)))


def narrowest(rule):
    """Options with as few."""
    return min(structures(rule), key=lambda options: len(states_of(rule, options)))


def situations():
    """Every rule with the fewest and the most states: SGD without momentum has none."""
    return {
        f"{rule} with {' and '.join(states_of(rule, options)) or 'no state'}": (rule, options)
        for rule in CLASSES
        for options in (narrowest(rule), widest(rule))
    }


@cache
def contradictions(rule):
    """Options of which one is refused because of the others: as few as show it, one example of each reason."""
    found = {}
    ends = {name: ENDS[span] for name, span in ranges(rule).items()}
    for count in (1, 2, 3):
        for names in subsets(ends, count):
            for values in product(*(ends[name] for name in names)):
                options = dict(zip(names, values, strict=True))
                reason = refusal(rule, options)
                if reason:
                    at_fault, said = reason.split("=")[0], reason.split(" ", 1)[1]
                    found.setdefault((at_fault, said), options)
    return [(options, at_fault) for (at_fault, _), options in found.items()]


def accepting(rule, name, value):
    """Options that this value of this option goes with; None if there are none."""
    return next((o for o in combinations(rule) if fits(rule, o | {name: value}, "float64")), None)


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


def start_arrays(rule, options, param):
    """The states as an optimizer makes them."""
    return {name: np.full_like(param, start, subok=False) for name, start in states_of(rule, options).items()}


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
        self.memory = np.empty(size * np.dtype(dtype).itemsize + 4 * self.GUARD, np.uint8)
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
