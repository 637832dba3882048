"""A step has the bits of its NumPy twin, whatever the instruction set, threads, alignment and cut (promises 1 to 6)."""

import os
import platform
import subprocess
import sys
import textwrap
from itertools import pairwise

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import instep
from floating_point import MODES, floating_point_mode
from instep import _core
from instep._core import Options
from trials import (
    CLASSES,
    Placed,
    assert_same_bits,
    combinations,
    copies,
    defaults,
    expected,
    fits,
    function,
    hard,
    hard_arrays,
    one_of_each_loop,
    ranges,
    start_arrays,
    states_of,
    structural,
    structures,
    tried_values,
    twin,
)

THREADS = [1, 2, 3, 4, 8]
BLOCK = 256
# Of elements of all arrays together, below two of these no other thread is given work: csrc/walk.c.
ELEMENTS_PER_THREAD = 32 * BLOCK
LONG = np.zeros((2, 1 << 21), np.float32)
WORTH_ALIGNING = 4096  # bytes: csrc/aligned.h


def rouse_workers():
    """A step so long that sleeping workers are woken: for the next microseconds a shorter one is theirs too."""
    instep.sgd(*LONG, lr=0.0)


def turn(rule):
    """Its number among the rules, which share what does not depend on them."""
    return list(CLASSES).index(rule)


def optimizer_with(rule, options, arrays, steps_before=0):
    """An optimizer whose state is as given: what loading a checkpoint does."""
    optimizer = CLASSES[rule]([arrays["param"]], **options)
    states = {name: [arrays[name]] for name in states_of(rule, options)}
    optimizer._adopt(optimizer._options, states, steps_before, [steps_before])
    return optimizer


# ---- the bits of the twin ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["function", "class"])
def test_every_combination_of_options(rule, dtype, isa, door, soak):
    """Ten million elements in a soak, over all combinations."""
    every = combinations(rule)
    elements = 10_000_000 if soak else 500_000
    size = elements // len(every) + 1
    random = np.random.default_rng(1)
    for k, options in enumerate(every):
        arrays = hard_arrays(random, rule, options, size, dtype)
        step_count = (1, 2, 17, 10**6)[k % 4]
        after = expected(rule, options, arrays, step_count)
        if door == "function":
            function(rule)(**arrays, step_count=step_count, **options)
        else:
            optimizer = optimizer_with(rule, options, arrays, step_count - 1)
            optimizer.step([arrays["grad"]])
            assert optimizer.step_count == step_count
        assert_same_bits(arrays, after, f"{options}, step {step_count}")


@pytest.mark.parametrize("size", [0, 1, 1023, 4099, 70_001])
def test_length(rule, dtype, isa, size):
    random = np.random.default_rng(size)
    for options in one_of_each_loop(rule)[:: 1 if size < 10_000 else 7]:
        arrays = hard_arrays(random, rule, options, size, dtype)
        after = expected(rule, options, arrays)
        function(rule)(**arrays, **options)
        assert_same_bits(arrays, after, f"{size} elements, {options}")


@pytest.mark.parametrize("order", ["C", "F"])
def test_shape_and_order(rule, dtype, isa, order):
    random = np.random.default_rng(2)
    for options in one_of_each_loop(rule):
        for shape in [(), (1,), (5, 7), (2, 1, 3), (3, 0, 2), (4, 5, 6)]:
            arrays = hard_arrays(random, rule, options, shape, dtype)
            arrays = {name: np.asarray(array, order=order) for name, array in arrays.items()}
            after = expected(rule, options, arrays)
            function(rule)(**arrays, **options)
            assert_same_bits(arrays, after, f"{shape} {order}, {options}")


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.array])
def test_options_and_counts_that_are_numbers_of_numpy(rule, dtype, kind):
    """They are taken for Python's, also by the twin, where NumPy would let them say in which type it multiplies."""
    random = np.random.default_rng(16)
    for options in one_of_each_loop(rule):
        arrays = hard_arrays(random, rule, options, 100, dtype)
        options = {name: kind(value) if type(value) is float else np.bool_(value) for name, value in options.items()}
        after = expected(rule, {name: value.item() for name, value in options.items()}, arrays, 3)
        for step in (function(rule), twin(rule)):
            actual = copies(arrays)
            step(**actual, step_count=np.int32(3), **options)
            assert_same_bits(actual, after, f"{options}")


@st.composite
def any_options(draw, rule, dtype):
    """Options from all of their ranges; most draws go together."""
    width = np.finfo(dtype).bits
    finite = st.floats(0, float(np.finfo(dtype).max), width=width)
    values = {
        "any size": st.just(0.0) | st.floats(0, 10, width=width) | finite,
        "positive": st.floats(0, 1, exclude_min=True, width=width) | finite,
        "decay": st.just(0.0) | st.floats(0, 1, exclude_max=True, width=width),
        "fraction": st.floats(0, 1, exclude_min=True, exclude_max=True, width=width),
        "growth": st.floats(1, 10, exclude_min=True, width=width) | finite,
        "flag": st.booleans(),
    }
    options = {}
    for name, span in ranges(rule).items():
        options[name] = defaults(rule)[name] if name.startswith("initial_") else draw(values[span])
    assume(fits(rule, options, dtype))
    return options


def test_any_options_on_any_numbers(rule, dtype, isa, soak):
    @settings(
        max_examples=5000 if soak else 40,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )
    @given(st.data())
    def same_bits(data):
        options = data.draw(any_options(rule, dtype))
        size = data.draw(st.integers(0, 40))
        numbers = hnp.arrays(dtype, size, elements=hnp.from_dtype(np.dtype(dtype)))
        arrays = {name: data.draw(numbers) for name in ("param", "grad", *states_of(rule, options))}
        step_count = data.draw(st.integers(1, 2**63 - 1))
        after = expected(rule, options, arrays, step_count)
        function(rule)(**arrays, step_count=step_count, **options)
        assert_same_bits(arrays, after, f"{options}, step {step_count}")

    same_bits()


def test_many_steps(rule, dtype, isa):
    """What a state becomes is the start of the next step, t included."""
    random = np.random.default_rng(3)
    for options in one_of_each_loop(rule):
        param = random.standard_normal(37).astype(dtype)
        arrays = dict(param=param, grad=np.empty_like(param))
        arrays |= start_arrays(rule, options, param)
        own = param.copy()
        optimizer = CLASSES[rule]([own], **options)
        for t in range(1, 40):
            arrays["grad"] = random.standard_normal(37).astype(dtype)
            optimizer.step([arrays["grad"]])
            arrays = expected(rule, options, arrays, t)
        states = {name: value[0] for name, value in optimizer.state.items()}
        assert_same_bits(dict(param=own, grad=arrays["grad"], **states), arrays, f"{options}")


# ---- threads, alignment, tail, cut ------------------------------------------------------------------------------


def test_every_length_at_every_offset(rule, dtype, isa, soak):
    """0 to 260 elements at 16 byte offsets each, between guards; in a soak for all thread counts each."""
    random = np.random.default_rng(4)
    loops = one_of_each_loop(rule)
    loops = loops[: len(loops) - (len(loops) % 2 == 0)]  # an odd number of them meets every remainder of n by 2^k
    room = {name: Placed(260, dtype) for options in loops for name in ("param", "grad", *states_of(rule, options))}
    for size in range(261):
        options = loops[size % len(loops)]
        arrays = hard_arrays(random, rule, options, size, dtype)
        after = expected(rule, options, arrays)
        for offset in range(16):
            for threads in THREADS if soak else [THREADS[(size + offset) % len(THREADS)]]:
                instep.set_num_threads(threads)
                placed = {
                    name: room[name].put(values, (offset * (1 + 2 * k * (threads % 2))) % 16)
                    for k, (name, values) in enumerate(arrays.items())
                }
                function(rule)(**placed, **options)
                situation = f"{size} elements, offset {offset}, {threads} threads, {options}"
                for name in placed:
                    if placed[name].tobytes() != after[name].tobytes():
                        assert_same_bits(placed, after, situation)
                    assert room[name].guards_hold(), f"{name}: written outside; {situation}"


def test_arrays_that_begin_within_a_line(rule, dtype, isa):
    """Long enough to be stepped from a whole line of the parameter on, wherever the others lie."""
    random = np.random.default_rng(6)
    width = np.dtype(dtype).itemsize
    for options in one_of_each_loop(rule):
        for size in (WORTH_ALIGNING // width - 1, WORTH_ALIGNING // width, WORTH_ALIGNING // width + 21):
            arrays = hard_arrays(random, rule, options, size, dtype)
            after = expected(rule, options, arrays)
            room = {name: Placed(size, dtype) for name in arrays}
            for offset in (1, width, 16, 40, 64 - width):
                for apart in (0, width):
                    placed = {
                        name: room[name].put(arrays[name], (offset + apart * k) % 64) for k, name in enumerate(arrays)
                    }
                    function(rule)(**placed, **options)
                    situation = f"{size} elements, offset {offset}, {apart} apart, {options}"
                    assert_same_bits(placed, after, situation)
                    assert all(one.guards_hold() for one in room.values()), situation


@pytest.mark.parametrize("threads", THREADS)
def test_threads(rule, dtype, isa, threads, soak):
    """Large enough to be cut among that many threads, at odd byte offsets; one size in turn, in a soak all of them."""
    random = np.random.default_rng(5)
    loops = one_of_each_loop(rule)
    sizes = [-1, 0, 1, 13]
    for extra in sizes if soak else [sizes[(turn(rule) + THREADS.index(threads)) % 4]]:
        options = loops[extra % len(loops)]
        size = 8 * max(threads, 2) * ELEMENTS_PER_THREAD + extra
        arrays = hard_arrays(random, rule, options, size, dtype)
        after = expected(rule, options, arrays)
        room = {name: Placed(size, dtype) for name in arrays}
        instep.set_num_threads(threads)
        for offset in (0, 5):
            placed = {name: room[name].put(values, offset) for name, values in arrays.items()}
            rouse_workers()
            function(rule)(**placed, **options)
            assert_same_bits(placed, after, f"{threads} threads, {size} elements, offset {offset}")
            assert all(memory.guards_hold() for memory in room.values())


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads as Linux shows them")
def test_the_threshold_that_the_tests_assume():
    """However often it comes, a job of less than two shares makes no thread.  A long one makes one at once."""
    code = f"""
        import os
        import numpy as np, instep
        instep.set_num_threads(2)
        def threads_after(size, steps):
            arrays = [np.ones(size, np.float32) for _ in range(3)]
            for _ in range(steps):
                instep.rmsprop(*arrays)
            return len(os.listdir("/proc/self/task"))
        before = threads_after(1, 1)
        assert threads_after(2 * {ELEMENTS_PER_THREAD} - {BLOCK}, 2000) == before
        assert threads_after(1 << 22, 1) == before + 1
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


@pytest.mark.parametrize("threads", THREADS)
def test_cuts_across_many_arrays(rule, threads):
    """A share may begin and end in the middle of any array, of either dtype, past empty ones and absent gradients."""
    random = np.random.default_rng(6)
    instep.set_num_threads(threads)
    for options in one_of_each_loop(rule)[::11]:
        dtypes = random.choice(["float32", "float64"], 60)
        sizes = random.choice([0, 1, 15, 17, 1000, 8191, 40_003], 60)
        every = [hard_arrays(random, rule, options, size, dtype) for size, dtype in zip(sizes, dtypes, strict=True)]
        absent = random.random(60) < 0.1
        after = [
            copies(arrays) if skip else expected(rule, options, arrays)
            for arrays, skip in zip(every, absent, strict=True)
        ]
        optimizer = CLASSES[rule]([arrays["param"] for arrays in every], **options)
        states = {name: [arrays[name] for arrays in every] for name in states_of(rule, options)}
        optimizer._adopt(optimizer._options, states)
        rouse_workers()
        optimizer.step([None if skip else arrays["grad"] for arrays, skip in zip(every, absent, strict=True)])
        for k in range(60):
            assert_same_bits(every[k], after[k], f"array {k}, {threads} threads, {options}")


@pytest.mark.parametrize("threads", THREADS[1:])
def test_a_cut_before_the_last_block(rule, dtype, threads, soak):
    """Every number of blocks that may put a cut between the last whole one and the one begun after it.

    A rule tries each eighth of them, all rules together all of them; in a soak each rule does.
    """
    random = np.random.default_rng(14)
    options = Options(rule).values()
    options = {name: options[name] for name in defaults(rule)}
    first = max(threads, 2) * ELEMENTS_PER_THREAD // BLOCK
    blocks = range(first, first + 32 * threads)
    arrays = hard_arrays(random, rule, options, blocks[-1] * BLOCK + 1, dtype)
    after = expected(rule, options, arrays)
    instep.set_num_threads(threads)
    for block in blocks if soak else blocks[turn(rule) % 8 :: 8]:
        size = block * BLOCK + 1
        actual = {name: array[:size].copy() for name, array in arrays.items()}
        rouse_workers()
        function(rule)(**actual, **options)
        for name in actual:
            if actual[name].tobytes() != after[name][:size].tobytes():
                assert_same_bits(actual, {n: array[:size] for n, array in after.items()}, f"{block} blocks and one")


def test_a_step_of_slices(rule, dtype, isa):
    """The step of the whole equals steps of its pieces, wherever it is cut."""
    random = np.random.default_rng(7)
    for options in one_of_each_loop(rule):
        arrays = hard_arrays(random, rule, options, 500, dtype)
        after = expected(rule, options, arrays)
        for _ in range(5):
            pieces = copies(arrays)
            cuts = sorted([0, 500, *random.integers(0, 501, random.integers(0, 9)).tolist()])
            for begin, end in pairwise(cuts):
                function(rule)(**{name: array[begin:end] for name, array in pieces.items()}, **options)
            assert_same_bits(pieces, after, f"cut at {cuts}, {options}")


# ---- the caller's floating-point environment --------------------------------------------------------------------


def test_the_modes_are_modes():
    """Otherwise the tests below would prove nothing."""
    tiny, one = np.array([1e-310]), np.array([1.0])
    results = set()
    for control in MODES.values():
        if control != MODES.get("traps"):
            with floating_point_mode(control):
                result = (tiny * 0.5).tobytes() + (one / 3).tobytes() + (-one / 3).tobytes()
            results.add(result)
    assert len(results) >= 5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("door", ["function", "class"])
def test_floating_point_mode(rule, dtype, isa, mode, door):
    """The caller's mode changes no bit, and is as it was afterwards, exception flags included."""
    random = np.random.default_rng(8)
    for options in one_of_each_loop(rule):
        options |= dict(lr=1 / 3)
        arrays = hard_arrays(random, rule, options, 301, dtype)
        after = expected(rule, options, arrays, 3)
        if door == "function":
            call, arguments = function(rule), arrays | options | dict(step_count=3)
        else:
            call, arguments = optimizer_with(rule, options, arrays, 2).step, dict(grads=[arrays["grad"]])
        with floating_point_mode(MODES[mode]) as left:
            call(**arguments)
        assert left.control == MODES[mode]
        assert_same_bits(arrays, after, f"{mode}, {options}")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "traps"])
def test_floating_point_mode_of_workers(mode):
    """Threads inherit the mode of who made them: workers that exist already have it, the caller no more."""
    code = f"""
        import numpy as np
        import instep
        from floating_point import MODES, floating_point_mode
        from trials import CLASSES, assert_same_bits, expected, function, hard_arrays, one_of_each_loop
        instep.set_num_threads(2)
        random = np.random.default_rng(9)
        size = 2 * {ELEMENTS_PER_THREAD}
        with floating_point_mode(MODES[{mode!r}]):
            instep.sgd(*hard_arrays(random, "sgd", {{}}, size, "float32").values())
        for rule in CLASSES:
            for options in one_of_each_loop(rule)[::29]:
                arrays = hard_arrays(random, rule, options, size, "float32")
                after = expected(rule, options, arrays)
                function(rule)(**arrays, **options)
                assert_same_bits(arrays, after)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=os.path.dirname(__file__))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "traps"])
def test_what_is_shared_out_leaves_no_exception_flag(mode):
    """To decide on threads takes arithmetic of its own, for steps, sums of rows and copies alike."""
    instep.set_num_threads(2)
    param, rows = np.zeros((7 * ELEMENTS_PER_THREAD // 100 + 3, 100), "float32"), np.zeros((999, 1000), "float32")
    grads = {
        "in order": (param, np.ones_like(param)),
        "turned": (param, np.ones(param.shape[::-1], "float32").T),
        "rows": (rows, instep.Rows(np.arange(999) // 3, np.ones((999, 1000), "float32"))),
    }
    for name, (array, grad) in grads.items():
        for options in ({}, {"clip_global_norm": 1.0}, {"average_decay": 0.5, "statistics": True}):
            optimizer = instep.SGD(array, lr=1 / 3, **options)
            for _ in range(3):
                with floating_point_mode(MODES[mode]) as left:
                    optimizer.step(grad)
                assert left.control == MODES[mode], f"{name}, {options}"


# ---- what no step leaves --------------------------------------------------------------------------------------


def test_no_step_leaves_a_negative_number_where_a_checkpoint_may_hold_none(rule, dtype, isa):
    random = np.random.default_rng(15)
    for options in combinations(rule):
        never = Options(rule).replace(options, ()).never_negative
        arrays = hard_arrays(random, rule, options, 1500, dtype)
        for name in never:
            arrays[name] = np.where(arrays[name] < 0, -arrays[name], arrays[name])
        for t in (1, 2, 10**6):
            function(rule)(**arrays, step_count=t, **options)
            for name in never:
                negative = arrays[name] < 0
                assert not negative.any(), f"{name} = {arrays[name][negative][0]!r} after step {t}; {options}"


# ---- NaN and infinity stay in their element ---------------------------------------------------------------------


def test_poison_stays_in_its_element(rule, dtype, isa):
    random = np.random.default_rng(10)
    loops = one_of_each_loop(rule)
    poisons = [np.nan, np.inf, -np.inf]
    turn = 0
    for size in range(1, 68):
        options = loops[size % len(loops)]
        names = ("param", "grad", *states_of(rule, options))
        arrays = {name: (random.random(size) + 0.5).astype(dtype) for name in names}
        clean = copies(arrays)
        function(rule)(**clean, **options)
        for place in range(size):
            for name in names:
                poisoned = copies(arrays)
                poisoned[name][place] = poisons[turn % 3]
                turn += 1
                function(rule)(**poisoned, **options)
                for other in names:
                    poisoned[other][place] = clean[other][place]
                    assert poisoned[other].tobytes() == clean[other].tobytes(), (size, place, name, other, options)


# ---- centered never makes a NaN ---------------------------------------------------------------------------------


def centered_trials(random, kind, dtype, trials):
    """One function of t a kind of gradient: each element is a trial."""
    largest = np.finfo(dtype).max
    level = (random.standard_normal(trials) * 10.0 ** random.uniform(-20, 20, trials)).astype(dtype)
    if kind == "constant":
        return lambda t: level
    if kind == "nearly constant":
        return lambda t: np.nextafter(level, level * random.choice([0, 2], trials).astype(dtype))
    if kind == "huge":
        return lambda t: (random.uniform(-1, 1, trials) * largest).astype(dtype)
    if kind == "largest, alternating":
        return lambda t: np.full(trials, largest if t % 2 else -largest, dtype)
    if kind == "largest, constant":
        return lambda t: np.full(trials, largest, dtype)
    return lambda t: hard_finite(random, trials, dtype)


def hard_finite(random, size, dtype):
    numbers = hard(random, size, dtype)
    return np.where(np.isfinite(numbers), numbers, 0).astype(dtype)


KINDS = ["constant", "nearly constant", "huge", "largest, alternating", "largest, constant", "anything finite"]


@pytest.mark.parametrize("kind", KINDS)
def test_centered_makes_no_nan(dtype, isa, kind, soak):
    """1 000 trials of 200 steps, for every combination of options that decides what a state becomes."""
    random = np.random.default_rng(11)
    trials = 1000
    every = [o for o in combinations("rmsprop") if o["centered"] and not o["weight_decay"] and not o["maximize"]]
    every = [options | dict(rho=rho) for options in every for rho in ((0.9, 0.99, 0.5) if soak else (0.9,))]
    for options in every if soak else every[::2]:
        param = np.zeros(trials, dtype)
        states = {name: np.zeros(trials, dtype) for name in states_of("rmsprop", options)}
        gradient = centered_trials(random, kind, dtype, trials)
        for t in range(1, 201):
            instep.rmsprop(param, gradient(t), **states, **options)
        for name, array in states.items():
            assert not np.isnan(array).any(), (name, options)
        assert not np.isnan(param).any(), options
        assert (states["variance"] >= 0).all()


def test_variance_and_average_of_squares(dtype):
    random = np.random.default_rng(12)
    grad_avg = random.standard_normal(1000).astype(dtype)
    square_avg = (grad_avg.astype("float64") ** 2 * random.uniform(0.9, 3, 1000)).astype(dtype)
    before = square_avg.tobytes(), grad_avg.tobytes()
    variance = instep.variance_of(square_avg, grad_avg)
    assert variance.dtype == dtype
    assert (variance >= 0).all()
    assert (variance[square_avg < grad_avg * grad_avg] == 0).all()
    back = instep.square_avg_of(variance, grad_avg)
    assert back.dtype == dtype
    at_least = np.maximum(square_avg, grad_avg * grad_avg)
    np.testing.assert_array_max_ulp(back, at_least, 2)
    assert not np.shares_memory(back, variance)
    assert (square_avg.tobytes(), grad_avg.tobytes()) == before


# ---- options changed between steps ------------------------------------------------------------------------------


def carried_on(states, options, before, param, rule):
    """The states by the documentation: new ones at their start, old ones as they are, but for what is converted."""
    after = {name: states.get(name, start) for name, start in start_arrays(rule, options, param).items()}
    if "variance" in after and "square_avg" in states:
        after["variance"] = states["square_avg"]
    if "square_avg" in after and "variance" in states:
        after["square_avg"] = instep.square_avg_of(states["variance"], states["grad_avg"])
    if "momentum_buffer" in after and "momentum_buffer" in states:
        if options["lr_in_momentum"] and not before["lr_in_momentum"]:
            after["momentum_buffer"] = states["momentum_buffer"] * before["lr"]
        if before["lr_in_momentum"] and not options["lr_in_momentum"]:
            after["momentum_buffer"] = states["momentum_buffer"] / before["lr"]
    return after


def any_value(random, rule, name):
    """Of an option, so that most values go together with those that the others have."""
    values = tried_values(rule, name)
    if name == "lr" or name.startswith("initial_"):
        values = [0.0625, 0.25, 0.5] if name == "lr" else [0.0, 4.0]
    return values[int(random.integers(len(values)))]


def switches(rule, options):
    """What chooses the loop: the structural options that are not numbers to start at."""
    return tuple(bool(options[name]) for name in structural(rule) if Options(rule).ranges[name] != "any size")


def test_options_changed_between_steps(rule, dtype):
    """New state starts at its start value, old state goes on, what is no longer needed is dropped."""
    random = np.random.default_rng(13)
    names = [*Options(rule).of_formula, *structural(rule), *structural(rule)]
    seen = set()
    for _ in range(6):
        param = random.standard_normal(19).astype(dtype)
        optimizer = CLASSES[rule]({"w": param}, lr=0.25)
        options, expected_param = optimizer._options.formula(), param.copy()
        states = start_arrays(rule, options, param)
        t = 0
        for _ in range(60):
            name = names[int(random.integers(len(names)))]
            changed = options | {name: any_value(random, rule, name)}
            if not fits(rule, changed, dtype):
                with pytest.raises(ValueError, match=r"\w+=.* "):
                    setattr(optimizer, name, changed[name])
            else:
                setattr(optimizer, name, changed[name])
                states = carried_on(states, changed, options, param, rule) if t else start_arrays(rule, changed, param)
                options = changed
            assert optimizer._options.formula() == options
            actual = {key: value["w"] for key, value in optimizer.state.items()}
            assert_same_bits(actual, states, f"{name}={changed[name]} before step {t + 1}")
            if random.random() < 0.2:
                continue
            t += 1
            arrays = dict(param=expected_param, grad=random.standard_normal(19).astype(dtype), **states)
            optimizer.step({"w": arrays["grad"]})
            after = expected(rule, options, arrays, t)
            assert_same_bits(dict(param=param, grad=arrays["grad"], **actual), after, f"step {t}, {options}")
            expected_param, states = after["param"], {key: after[key] for key in states}
            seen.add(switches(rule, options))
    assert seen == {switches(rule, options) for options in combinations(rule)}


WITH_MOMENTUM = [rule for rule in CLASSES if "lr_in_momentum" in Options(rule).values()]


@pytest.mark.parametrize("rule", WITH_MOMENTUM)
def test_the_momentum_moves_on_as_fast_when_lr_enters_at_the_other_end(rule, dtype):
    grads = np.random.default_rng(14).standard_normal((40, 7)).astype(dtype)
    moved, stayed = np.ones(7, dtype), np.ones(7, dtype)
    optimizers = [CLASSES[rule](param, lr=0.25, momentum=0.9) for param in (moved, stayed)]
    for k, grad in enumerate(grads):
        if k in (10, 20, 30):
            optimizers[0].lr_in_momentum = not optimizers[0].lr_in_momentum
        for optimizer in optimizers:
            optimizer.step(grad)
    np.testing.assert_array_equal(moved, stayed)  # lr is a power of two: no rounding


@pytest.mark.parametrize("rule", WITH_MOMENTUM)
def test_the_momentum_cannot_be_converted_without_a_learning_rate(rule):
    optimizer = CLASSES[rule](np.ones(3), lr=0.0, momentum=0.9)
    with pytest.raises(ValueError, match="lr_in_momentum cannot change while lr is 0"):
        optimizer.lr_in_momentum = True
    assert not optimizer.lr_in_momentum


def test_start_value_before_the_first_step(rule, dtype):
    """An option that a state starts at makes it anew until the first step, and changes nothing afterwards."""
    for options in structures(rule):
        param = np.ones(5, dtype)
        optimizer = CLASSES[rule]([param], **options)
        for value in (1.0, 3.0):
            for name in structural(rule):
                changed = optimizer.options | {name: value}
                if isinstance(options[name], bool) or not fits(rule, changed, dtype):
                    continue
                if list(states_of(rule, changed)) != list(states_of(rule, options)):
                    continue
                setattr(optimizer, name, value)
            starts = start_arrays(rule, optimizer.options, param)
            assert_same_bits({name: state[0] for name, state in optimizer.state.items()}, starts)
        optimizer.step([np.ones(5, dtype)])
        before = {name: state[0].copy() for name, state in optimizer.state.items()}
        for name in structural(rule):
            if name.startswith("initial_") and fits(rule, optimizer.options | {name: 2.0}, dtype):
                setattr(optimizer, name, 2.0)
        assert_same_bits({name: state[0] for name, state in optimizer.state.items()}, before)


def test_active_isa_is_the_forced_one(isa):
    assert _core.active_isa() == isa


def test_a_default_that_a_subclass_redeclares_counts(rule):
    """A type checker believes the annotation; what a step reads must agree with it."""
    cls = CLASSES[rule]
    changed = {"lr": 0.25, "maximize": True}
    variant = type("Variant", (cls,), {**changed, "__annotations__": {"lr": "float", "maximize": "bool"}})
    random = np.random.default_rng(15)
    own, other, grad = np.ones(9), np.ones(9), random.standard_normal(9)
    optimizer = variant(own)
    assert optimizer.options == cls(other).options | changed
    optimizer.step(grad)
    cls(other, **changed).step(grad)
    assert own.tobytes() == other.tobytes() != np.ones(9).tobytes()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"), reason="keeps them")
def test_subnormal_numbers_count_as_zero(rule, dtype, isa):
    """In a parameter, in a gradient and in what a step makes of them."""
    tiny = np.finfo(dtype).tiny
    for options in one_of_each_loop(rule):
        states = {name: np.full(2, start, dtype) for name, start in states_of(rule, options).items()}
        like_zero = copies(states)
        param, zero = np.full(2, tiny / 2, dtype), np.zeros(2, dtype)
        function(rule)(param, np.full(2, tiny / 4, dtype), **states, **options)
        function(rule)(zero, np.zeros(2, dtype), **like_zero, **options)
        assert_same_bits(dict(param=param, **states), dict(param=zero, **like_zero), options)
        assert (zero == 0).all()
