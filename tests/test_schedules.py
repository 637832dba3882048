"""Schedules: values by hand, their ends and joints, what they refuse, and torch's and optax's beside them."""

import copy
import fractions
import math
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import instep
from instep.schedules import Schedule, constant, cosine, exponential, one_cycle, piecewise, polynomial, warmup
from peers import peer

MANY = 2**63 - 1


def by_hand(step):
    """A foreign schedule."""
    return 0.1 / (1 + step)


def one_of_each():
    return [
        constant(0.1),
        piecewise(0.1, {100: 0.01, 200: 0.001}),
        piecewise(0.1, {}),
        exponential(0.1, 0.5, 100),
        exponential(0.1, 0.5, 100, staircase=True, end=0.02),
        exponential(1e-6, 10.0, 100, end=1.0),
        polynomial(0.1, 0.02, 100),
        polynomial(0.02, 0.1, 100, power=2),
        cosine(0.1, 100),
        cosine(0.02, 100, end=0.1),
        one_cycle(0.1, 100),
        one_cycle(0.85, 100, rise=0.45, start=0.95, end=0.9),
        warmup(cosine(0.1, 100), 10),
        warmup(warmup(constant(0.1), 5, start=0.05), 5),
        warmup(by_hand, 10, start=0.2),
    ]


each = pytest.mark.parametrize("schedule", one_of_each(), ids=repr)


# ---- values -----------------------------------------------------------------------------------------------------

# Every number can be checked in the head.
EXACT = [
    (constant(0.1), {0: 0.1, 1: 0.1, MANY: 0.1}),
    (piecewise(0.1, {}), {0: 0.1, MANY: 0.1}),
    (piecewise(0.1, {1: 0.5, 3: 0.3}), {0: 0.1, 1: 0.5, 2: 0.5, 3: 0.3, 4: 0.3, MANY: 0.3}),
    (exponential(0.5, 0.25, 2), {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.0625, MANY: 0.0}),
    (exponential(0.5, 0.25, 2, end=0.1), {2: 0.125, 3: 0.1, MANY: 0.1}),
    (exponential(0.5, 0.25, 2, staircase=True), {0: 0.5, 1: 0.5, 2: 0.125, 3: 0.125, 4: 0.03125}),
    (exponential(0.5, 1.0, 2), {0: 0.5, 1: 0.5, MANY: 0.5}),
    (exponential(1.0, 2.0, 1, end=5.0), {0: 1.0, 1: 2.0, 2: 4.0, 3: 5.0, 1024: 5.0, MANY: 5.0}),
    (exponential(1.0, 2.0, 1, staircase=True, end=5.0), {2: 4.0, 3: 5.0, 1024: 5.0, MANY: 5.0}),
    (polynomial(1.0, 0.0, 4), {0: 1.0, 1: 0.75, 2: 0.5, 3: 0.25, 4: 0.0, 5: 0.0, MANY: 0.0}),
    (polynomial(1.0, 0.0, 4, power=2), {0: 1.0, 1: 0.5625, 2: 0.25, 3: 0.0625, 4: 0.0, MANY: 0.0}),
    (polynomial(1.0, 3.0, 4, power=0.5), {0: 1.0, 3: 2.0, 4: 3.0, MANY: 3.0}),
    (polynomial(0.3, 0.1, 1), {0: 0.3, 1: 0.1, 2: 0.1}),
    (cosine(0.3, 1, end=0.1), {0: 0.3, 1: 0.1, MANY: 0.1}),
    (one_cycle(0.3, 10, rise=0.5, start=0.1, end=0.7), {0: 0.1, 5: 0.3, 10: 0.7, 11: 0.7, MANY: 0.7}),
    (one_cycle(0.3, 1), {0: 0.3 / 25, 1: 0.3 / 25 / 10_000}),
    (warmup(constant(1.0), 4), {0: 0.0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0, MANY: 1.0}),
    (warmup(polynomial(0.5, 1.5, 4), 2, start=1.0), {0: 1.0, 1: 0.75, 2: 0.5, 3: 0.75, 6: 1.5, MANY: 1.5}),
    (warmup(by_hand, 2), {0: 0.0, 1: 0.05, 2: 0.1, 3: 0.05}),
    (warmup(constant(0.1), 0), {0: 0.1, 1: 0.1}),
    (warmup(warmup(constant(1.0), 2, start=0.5), 2), {0: 0.0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0}),
]


@pytest.mark.parametrize(("schedule", "values"), EXACT, ids=[repr(schedule) for schedule, _ in EXACT])
def test_exact_values(schedule, values):
    assert {step: schedule(step) for step in values} == values


# cos(pi / 3) = 1 / 2, which the sine reaches but for its rounding.
NEARLY_EXACT = [
    (cosine(1.0, 6), {0: 1.0, 2: 0.75, 3: 0.5, 4: 0.25, 6: 0.0}),
    (cosine(1.0, 6, end=3.0), {0: 1.0, 2: 1.5, 3: 2.0, 4: 2.5, 6: 3.0}),
    (one_cycle(1.0, 12, rise=0.25, start=0.0, end=0.5), {0: 0, 1: 0.25, 2: 0.75, 3: 1, 6: 0.875, 9: 0.625, 12: 0.5}),
    (exponential(1.0, 0.01, 2), {1: 0.1, 2: 0.01, 3: 0.001}),
]


@pytest.mark.parametrize("schedule", [constant(0.1), lambda step: 0.1], ids=["ours", "a function"])
def test_a_schedule_is_no_number(schedule):
    """Who gives it itself is told to call it."""
    opt = instep.RMSprop(np.zeros(2))
    message = r"lr must be a real number, not a value of type \w+: call it before each step, as in "
    message += r"opt\.lr = schedule\(opt\.step_count\)$"
    for give in (
        lambda: setattr(opt, "lr", schedule),
        lambda: instep.RMSprop(np.zeros(2), lr=schedule),
        lambda: instep.RMSprop.preset("torch", np.zeros(2), lr=schedule),
        lambda: instep.rmsprop(np.zeros(2), np.zeros(2), np.zeros(2), lr=schedule),
    ):
        with pytest.raises(TypeError, match=f"^{message}"):
            give()
    with pytest.raises(TypeError, match=rf"^groups\['w'\]: {message}"):
        instep.RMSprop({"w": np.zeros(2)}, groups={"w": {"lr": schedule}})


@pytest.mark.parametrize(("schedule", "values"), NEARLY_EXACT, ids=[repr(schedule) for schedule, _ in NEARLY_EXACT])
def test_values(schedule, values):
    assert {step: schedule(step) for step in values} == pytest.approx(values, rel=1e-15, abs=0)


def test_a_cosine_is_as_precise_near_its_end():
    left = math.pi / 2e6  # 1 + cos(pi step / steps) would have four digits left
    assert cosine(1.0, 10**6)(10**6 - 1) == pytest.approx(left**2 * (1 - left**2 / 3), rel=1e-15, abs=0)


def test_the_defaults_of_one_cycle():
    assert one_cycle(0.5, 10) == one_cycle(0.5, 10, rise=0.3, start=0.02, end=2e-6)
    assert one_cycle(0.5, 10, start=0.1) == one_cycle(0.5, 10, start=0.1, end=1e-5)


@each
def test_a_step_is_any_integer_and_a_value_a_float(schedule):
    for step in (0, 3, 100, 101):
        value = schedule(step)
        assert type(value) is float
        for integer in (np.int8(step), np.int64(step), np.uint64(step), np.array(step)):
            again = schedule(integer)
            assert (again, type(again)) == (value, float)


@each
def test_it_is_a_function(schedule):
    steps = [*range(250), MANY]
    values = [schedule(step) for step in steps]
    assert [schedule(step) for step in reversed(steps)] == values[::-1]


# ---- properties -------------------------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6)
lengths = st.integers(1, 10**9) | st.integers(1, 40)
powers = st.floats(0.1, 10)


@st.composite
def ramps(draw):
    """A schedule that goes one way, its two ends, and where it reaches the second one."""
    start, end, steps = draw(numbers), draw(numbers), draw(lengths)
    schedule = draw(
        st.sampled_from(
            [
                cosine(start, steps, end),
                polynomial(start, end, steps, draw(powers)),
                warmup(constant(end), steps, start),
                one_cycle(end, 2 * steps, rise=0.5, start=start, end=end),
            ]
        )
    )
    return schedule, start, end, steps


@given(ramps(), st.data())
def test_a_ramp_is_monotonic_and_keeps_to_its_ends(ramp, data):
    schedule, start, end, steps = ramp
    assert schedule(0) == start
    assert schedule(steps) == schedule(steps + data.draw(lengths)) == end
    step = data.draw(st.integers(0, steps - 1))
    here, there = schedule(step), schedule(step + 1)
    assert min(start, end) <= here <= max(start, end)
    # The C library's sine and power are monotonic to a rounding.
    assert (there - here) * math.copysign(1, end - start) >= -1e-15 * max(abs(start), abs(end))


@given(st.floats(1e-6, 1e6), st.floats(0.01, 1), lengths, st.booleans(), st.integers(0, 10**9))
def test_exponential_decays(start, decay_rate, decay_steps, staircase, step):
    schedule = exponential(start, decay_rate, decay_steps, staircase)
    assert schedule(0) == start
    assert 0 <= schedule(step + 1) <= schedule(step) * (1 + 1e-15)
    assert schedule(decay_steps) == start * decay_rate
    bounded = exponential(start, decay_rate, decay_steps, staircase, end=start / 2)
    assert bounded(step) == max(schedule(step), start / 2)
    if staircase:
        assert schedule(step) == schedule(step - step % decay_steps)


@given(st.dictionaries(st.integers(1, 50), numbers), numbers, st.integers(0, 60))
def test_piecewise_is_the_last_value_reached(values, start, step):
    values = dict(sorted(values.items()))
    reached = [value for boundary, value in values.items() if boundary <= step]
    assert piecewise(start, values)(step) == ([start] + reached)[-1]


@given(numbers, numbers, st.integers(0, 50), st.integers(0, 100))
def test_a_schedule_starts_when_its_warm_up_is_over(start, peak, steps, step):
    inner = cosine(peak, 30, end=1.0)
    schedule = warmup(inner, steps, start)
    assert schedule(steps + step) == inner(step)
    assert schedule(steps) == peak


# ---- as objects -------------------------------------------------------------------------------------------------


def test_repr():
    assert repr(cosine(0.1, 1000)) == "cosine(start=0.1, steps=1000, end=0.0)"
    assert repr(piecewise(1, {np.int64(3): np.float32(0.5)})) == "piecewise(start=1.0, values={3: 0.5})"
    assert "staircase=True" in repr(exponential(0.1, 0.5, 5, staircase=np.True_))
    assert repr(warmup(constant(0.1), 5)) == "warmup(schedule=constant(value=0.1), steps=5, start=0.0)"


@each
def test_it_can_be_copied_and_its_repr_makes_it(schedule):
    copies = [pickle.loads(pickle.dumps(schedule, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    copies += [copy.copy(schedule), copy.deepcopy(schedule)]
    if "function" not in repr(schedule):
        copies.append(eval(repr(schedule)))
    for other in copies:
        assert other == schedule
        assert hash(other) == hash(schedule)
        assert repr(other) == repr(schedule)
        assert [other(step) for step in range(120)] == [schedule(step) for step in range(120)]


def test_equal_are_those_of_one_maker_and_equal_arguments():
    schedules = one_of_each()
    assert len(set(schedules)) == len(schedules)
    assert set(schedules) == set(one_of_each())
    assert cosine(1, np.int32(10)) == cosine(start=1.0, steps=10, end=0)
    assert cosine(1, 10) != cosine(1, 11)
    assert polynomial(1, 0, 10) != cosine(1, 10)
    assert cosine(1, 10) != "cosine(start=1.0, steps=10, end=0.0)"


@each
def test_it_cannot_be_changed(schedule):
    with pytest.raises(AttributeError):
        schedule.steps = 5


def test_what_it_was_made_of_may_change():
    values = {5: 0.5}
    schedule = piecewise(0.1, values)
    values[5] = values[6] = 0.7
    assert (schedule(5), schedule(6)) == (0.5, 0.5)


def test_the_module_is_public():
    assert instep.schedules.cosine is cosine
    makers = {name for name in instep.schedules.__all__ if name != "Schedule"}
    assert makers == {repr(schedule).split("(")[0] for schedule in one_of_each()}


# ---- what is refused --------------------------------------------------------------------------------------------

BAD_STEPS = [
    (-1, ValueError, "step=-1 must be an integer from 0 to 9223372036854775807"),
    (2**63, ValueError, f"step={2**63} must be an integer from 0 to 9223372036854775807"),
    (np.int8(-1), ValueError, "step=-1 must be an integer from 0"),
    (3.0, TypeError, "step must be an integer, not 3.0"),
    (np.float64(3.0), TypeError, "step must be an integer, not np.float64(3.0)"),
    (math.nan, TypeError, "step must be an integer, not nan"),
    (math.inf, TypeError, "step must be an integer, not inf"),
    (True, TypeError, "step must be an integer, not True"),
    (np.True_, TypeError, "step must be an integer, not np.True_"),
    ("3", TypeError, "step must be an integer, not '3'"),
    (None, TypeError, "step must be an integer, not None"),
    (np.array([3]), TypeError, "step must be an integer, not array([3])"),
]


@pytest.mark.parametrize(("step", "error", "message"), BAD_STEPS, ids=[repr(step) for step, *_ in BAD_STEPS])
@each
def test_a_bad_step(schedule, step, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        schedule(step)


GOOD = {
    constant: dict(value=0.1),
    piecewise: dict(start=0.1, values={1: 0.5}),
    exponential: dict(start=0.1, decay_rate=0.5, decay_steps=10, staircase=False, end=0.01),
    polynomial: dict(start=0.1, end=0.2, steps=10, power=1),
    cosine: dict(start=0.1, steps=10, end=0),
    one_cycle: dict(peak=0.1, steps=10, rise=0.3, start=0.01, end=0.01),
    warmup: dict(schedule=constant(0.1), steps=10, start=0),
}
COUNTS = ("steps", "decay_steps")
NO_NUMBERS = ("values", "staircase", "schedule", *COUNTS)
A_NUMBER = [(make, name) for make, arguments in GOOD.items() for name in arguments if name not in NO_NUMBERS]
A_COUNT = [(make, name) for make, arguments in GOOD.items() for name in arguments if name in COUNTS]


def refuses(make, error, message, **bad):
    with pytest.raises(error, match="^" + re.escape(message)):
        make(**{**GOOD[make], **bad})


@pytest.mark.parametrize(("make", "name"), A_NUMBER)
def test_a_bad_number(make, name):
    for value in (math.nan, math.inf, -math.inf, np.float32("nan")):
        refuses(make, ValueError, f"{name}={value!r} must be finite", **{name: value})
    for value in (10**400, 10**5000):
        refuses(make, ValueError, f"{name} must be finite, and not larger than every float", **{name: value})
    bad = ["0.1", 1j, True, np.True_, [0.1], np.array([0.1]), np.array(1j), np.array(True), np.array("0.1")]
    if (make, name) not in [(one_cycle, "start"), (one_cycle, "end"), (exponential, "end")]:
        bad.append(None)
    for value in bad:
        refuses(make, TypeError, f"{name} must be a real number, not a value of type ", **{name: value})


@pytest.mark.parametrize(("make", "name"), A_NUMBER)
def test_a_number_may_be_of_any_type(make, name):
    values = (np.float64(0.25), np.float32(0.25), np.float16(0.25), np.array(0.25), fractions.Fraction(1, 4))
    good = GOOD[make] | (dict(start=0.25) if make is exponential else {})
    if (make, name) == (exponential, "end"):
        good |= dict(start=0.5)
    elif make is exponential:
        good |= dict(end=0.0)
    for value in values:
        assert make(**{**good, name: value}) == make(**{**good, name: 0.25})


@pytest.mark.parametrize(("make", "name"), A_COUNT)
def test_a_bad_count(make, name):
    least = 0 if make is warmup else 1
    for value in (least - 1, -5, 2**63):
        message = f"{name}={value} must be an integer from {least} to 9223372036854775807"
        refuses(make, ValueError, message, **{name: value})
    for value in (10.0, math.nan, "10", None, True, np.True_):
        refuses(make, TypeError, f"{name} must be an integer, not {value!r}", **{name: value})


def test_bad_pieces():
    for values in (None, 3, [(1, 0.5)], {1}):
        refuses(piecewise, TypeError, f"values must be a mapping of steps to values, not {values!r}", values=values)
    for step, error, message in (
        (0, ValueError, "a step of values=0 must be an integer from 1 to 9223372036854775807"),
        (-3, ValueError, "a step of values=-3 must be an integer from 1 to 9223372036854775807"),
        (1.0, TypeError, "a step of values must be an integer, not 1.0"),
        ("1", TypeError, "a step of values must be an integer, not '1'"),
        (True, TypeError, "a step of values must be an integer, not True"),
    ):
        refuses(piecewise, error, message, values={step: 0.5})
    refuses(piecewise, ValueError, "values: step 2 must be greater than the step before it, 3", values={3: 0.1, 2: 0.2})
    refuses(piecewise, ValueError, "values[3]=nan must be finite", values={2: 0.1, 3: math.nan})
    refuses(piecewise, TypeError, "values[2] must be a real number, not a value of type str", values={2: "0.1"})


def test_bad_numbers_for_exponential():
    for value in (0.0, -0.5):
        refuses(exponential, ValueError, f"start={value} must be greater than 0", start=value)
        refuses(exponential, ValueError, f"decay_rate={value} must be greater than 0", decay_rate=value)
    for value in (1, 0, None, "yes"):
        refuses(exponential, TypeError, f"staircase must be True or False, not {value!r}", staircase=value)
    message = "end={} must be from 0 to start=0.1 when decay_rate is at most 1"
    refuses(exponential, ValueError, message.format(0.2), end=0.2)
    refuses(exponential, ValueError, message.format(-0.1), end=-0.1)
    refuses(exponential, ValueError, message.format(0.2), end=0.2, decay_rate=1)
    message = "end=0.01 must be at least start=0.1 when decay_rate is greater than 1"
    refuses(exponential, ValueError, message, decay_rate=1.5)
    message = "end is needed when decay_rate=1.5 is greater than 1"
    refuses(exponential, ValueError, message, decay_rate=1.5, end=None)


def test_bad_numbers_for_the_others():
    for value in (0.0, -1.0):
        refuses(polynomial, ValueError, f"power={value} must be greater than 0", power=value)
    for value in (0.0, 1.0, -0.5, 30.0):
        refuses(one_cycle, ValueError, f"rise={value} must be greater than 0 and less than 1", rise=value)


def test_a_bad_schedule_to_warm_up():
    refuses(warmup, TypeError, "schedule must be a function of the step, not 0.1", schedule=0.1)
    refuses(
        warmup, TypeError, "schedule(0) must be a real number, not a value of type str", schedule=lambda step: "0.1"
    )
    refuses(
        warmup, TypeError, "schedule(0) must be a real number, not a value of type NoneType", schedule=lambda step: None
    )
    refuses(warmup, ValueError, "schedule(0)=nan must be finite", schedule=lambda step: math.nan)
    late = warmup(lambda step: 0.1 if step < 3 else math.inf, 10)
    assert late(12) == 0.1
    with pytest.raises(ValueError, match=re.escape("schedule(3)=inf must be finite")):
        late(13)


# ---- beside the frameworks --------------------------------------------------------------------------------------


def of_torch(make, steps, lr=0.3):
    """The learning rate and momentum of each step."""
    torch = peer("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.95)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates, momenta = [], []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    return rates, momenta


# torch forms most of them as a product of all factors so far, and a cosine by 1 + cos: in relation to what they start
# at, they agree to the rounding of a few hundred steps.
TORCH = {
    "ConstantLR": (lambda m, opt: m.ConstantLR(opt, 0.5, 70), piecewise(0.15, {70: 0.3})),
    "MultiStepLR": (lambda m, opt: m.MultiStepLR(opt, [30, 80], 0.1), piecewise(0.3, {30: 0.03, 80: 0.003})),
    "StepLR": (lambda m, opt: m.StepLR(opt, 30, 0.1), exponential(0.3, 0.1, 30, staircase=True)),
    "ExponentialLR": (lambda m, opt: m.ExponentialLR(opt, 0.98), exponential(0.3, 0.98, 1)),
    "LinearLR": (lambda m, opt: m.LinearLR(opt, 0.25, 0.75, 90), polynomial(0.3 * 0.25, 0.3 * 0.75, 90)),
    "LinearLR, warm-up": (lambda m, opt: m.LinearLR(opt, 0.25, 1.0, 90), warmup(constant(0.3), 90, 0.3 * 0.25)),
    "PolynomialLR": (lambda m, opt: m.PolynomialLR(opt, 90, 1.0), polynomial(0.3, 0.0, 90)),
    "PolynomialLR, power 2.5": (lambda m, opt: m.PolynomialLR(opt, 90, 2.5), polynomial(0.3, 0.0, 90, 2.5)),
    "CosineAnnealingLR": (lambda m, opt: m.CosineAnnealingLR(opt, 150, 0.01), cosine(0.3, 150, end=0.01)),
    "SequentialLR": (
        lambda m, opt: m.SequentialLR(opt, [m.LinearLR(opt, 0.1, 1.0, 20), m.CosineAnnealingLR(opt, 130)], [20]),
        warmup(cosine(0.3, 130), 20, start=0.03),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning:torch")  # of SequentialLR itself
@pytest.mark.parametrize("name", TORCH)
def test_torch(name):
    make, schedule = TORCH[name]
    theirs, _ = of_torch(make, 151)
    np.testing.assert_allclose([schedule(step) for step in range(151)], theirs, rtol=1e-12, atol=1e-13 * 0.3)


@pytest.mark.parametrize(("total_steps", "pct_start"), [(10, 0.3), (100, 0.3), (100, 0.25), (25, 0.31), (1000, 0.5)])
def test_torch_one_cycle(total_steps, pct_start):
    rates, momenta = of_torch(
        lambda m, opt: m.OneCycleLR(opt, 0.3, total_steps=total_steps, pct_start=pct_start), total_steps
    )
    rise = (pct_start * total_steps - 1) / (total_steps - 1)
    lr = one_cycle(0.3, total_steps - 1, rise=rise)
    momentum = one_cycle(0.85, total_steps - 1, rise=rise, start=0.95, end=0.95)
    np.testing.assert_allclose([lr(step) for step in range(total_steps)], rates, rtol=1e-12, atol=1e-13 * 0.3)
    np.testing.assert_allclose([momentum(step) for step in range(total_steps)], momenta, rtol=1e-12, atol=0)


OPTAX = {
    "constant": (lambda o: o.constant_schedule(0.3), constant(0.3)),
    "piecewise": (lambda o: o.piecewise_constant_schedule(0.3, {30: 0.1, 80: 2}), piecewise(0.3, {30: 0.03, 80: 0.06})),
    "exponential": (lambda o: o.exponential_decay(0.3, 20, 0.5), exponential(0.3, 0.5, 20)),
    "exponential, staircase": (
        lambda o: o.exponential_decay(0.3, 20, 0.5, staircase=True, end_value=0.02),
        exponential(0.3, 0.5, 20, staircase=True, end=0.02),
    ),
    "exponential, growing": (
        lambda o: o.exponential_decay(0.001, 20, 3.0, end_value=0.5),
        exponential(0.001, 3.0, 20, end=0.5),
    ),
    "linear": (lambda o: o.linear_schedule(0.1, 0.3, 90), polynomial(0.1, 0.3, 90)),
    "polynomial": (lambda o: o.polynomial_schedule(0.3, 0.1, 2.5, 90), polynomial(0.3, 0.1, 90, 2.5)),
    "cosine": (lambda o: o.cosine_decay_schedule(0.3, 90, alpha=0.1), cosine(0.3, 90, end=0.03)),
    "one cycle": (lambda o: o.cosine_onecycle_schedule(90, 0.3), one_cycle(0.3, 90)),
    "one cycle, rounded": (
        lambda o: o.cosine_onecycle_schedule(90, 0.3, pct_start=0.25),
        one_cycle(0.3, 90, rise=22 / 90),
    ),
    "warm-up": (lambda o: o.warmup_constant_schedule(0.1, 0.3, 20), warmup(constant(0.3), 20, 0.1)),
    "warm-up, cosine": (
        lambda o: o.warmup_cosine_decay_schedule(0.01, 0.3, 20, 110, 0.05),
        warmup(cosine(0.3, 90, end=0.05), 20, start=0.01),
    ),
    "warm-up, exponential": (
        lambda o: o.warmup_exponential_decay_schedule(0.0, 0.3, 20, 30, 0.5),
        warmup(exponential(0.3, 0.5, 30), 20),
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_optax(name):
    """In float32, where differences of numbers of the size of the peak are rounded to 6e-8 of it."""
    optax = peer("optax")
    make, schedule = OPTAX[name]
    theirs = make(optax)
    steps = [*range(0, 131, 5), 19, 21, 29, 31, 79, 81, 89, 91]
    np.testing.assert_allclose(
        [schedule(step) for step in steps], [float(theirs(step)) for step in steps], rtol=1e-6, atol=1e-6 * 0.3
    )


def test_what_a_schedule_of_optax_returns_is_assigned_as_it_is(rule):
    theirs = peer("optax").cosine_decay_schedule(0.25, 90)
    optimizer = instep.optimizers.Optimizer.of_rule(rule)(np.ones(3))
    optimizer.lr = theirs(optimizer.step_count)
    assert type(optimizer.lr) is float
    assert optimizer.lr == 0.25


def test_a_schedule_of_optax_warmed_up():
    optax = peer("optax")
    theirs = optax.cosine_decay_schedule(0.3, 90)
    schedule = warmup(theirs, 10)
    assert [schedule(step) for step in (0, 5, 10)] == pytest.approx([0, 0.15, 0.3], rel=1e-6)
    assert schedule(60) == float(theirs(50))
    assert type(schedule(5)) is type(schedule(60)) is float


# ---- in a run ---------------------------------------------------------------------------------------------------

LR = warmup(cosine(0.3, 130), 20)
RHO = polynomial(0.5, 0.95, 100)
MOMENTUM = one_cycle(0.3, 150, start=0.5, end=0.5)
SCALES = np.array([1.0, 10.0, 0.1])


def train(opt, weights, steps):
    for _ in range(steps):
        opt.lr, opt.rho, opt.momentum = LR(opt.step_count), RHO(opt.step_count), MOMENTUM(opt.step_count)
        opt.step(SCALES.astype(weights.dtype) * weights)


def test_a_quadratic(dtype):
    weights = np.array([1.0, -2.0, 3.0], dtype)
    train(instep.RMSprop(weights), weights, 150)
    assert abs(weights).max() < 1e-2


@pytest.mark.parametrize("cut", [0, 1, 19, 20, 21, 100, 149])
def test_a_resumed_run_is_the_uninterrupted_one(cut, dtype, tmp_path):
    weights = np.array([1.0, -2.0, 3.0], dtype)
    train(instep.RMSprop(weights), weights, 150)

    halves = np.array([1.0, -2.0, 3.0], dtype)
    first = instep.RMSprop(halves)
    train(first, halves, cut)
    first.save(tmp_path / "opt.checkpoint")
    halves = halves.copy()
    train(instep.load(tmp_path / "opt.checkpoint", halves), halves, 150 - cut)
    assert halves.tobytes() == weights.tobytes()


def test_the_option_checks_what_the_schedule_says():
    opt = instep.RMSprop(np.zeros(3), rho=0.5)
    schedule = polynomial(0.9, 1.0, 10)
    opt.rho = schedule(9)
    with pytest.raises(ValueError, match="rho"):
        opt.rho = schedule(10)
    assert isinstance(schedule, Schedule)
    assert opt.rho == schedule(9)
