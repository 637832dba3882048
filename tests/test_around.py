"""What surrounds a rule has the bits of its NumPy twin, for every rule, format and number of threads."""

import math
import re

import ml_dtypes
import numpy as np
import pytest

import instep
from instep import around, storage
from instep._core import Options, run_in_step_arithmetic
from instep.checkpoint.state_dict import spell_path
from trials import CLASSES, assert_same_bits, hard, one_of_each_loop, states_of

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FORMS = {  # of the parameter, the gradient and the states
    "float32": ("float32", "float32", {}),
    "float64": ("float64", "float64", {}),
    "float32 gradient of float64": ("float64", "float32", {}),
    "float16 gradient of float64": ("float64", "float16", {}),
    "bfloat16 gradient of float64": ("float64", BFLOAT16, {}),
    "bfloat16 gradient": ("float32", BFLOAT16, {}),
    "float16 gradient": ("float32", "float16", {}),
    "bfloat16": (BFLOAT16, BFLOAT16, {}),
    "bfloat16 with float32 gradient": (BFLOAT16, "float32", {}),
    "float16": ("float16", "float16", {}),
    "split": (BFLOAT16, BFLOAT16, {"master": "split"}),
    "float32 master of bfloat16": (BFLOAT16, BFLOAT16, {"master": "float32"}),
    "float32 master of float16": ("float16", "float16", {"master": "float32"}),
    "bfloat16 state": ("float32", "float32", {"state_dtype": "bfloat16"}),
    "8-bit state": ("float32", "float32", {"state_dtype": "8bit"}),
    "8-bit state of bfloat16": (BFLOAT16, BFLOAT16, {"state_dtype": "8bit"}),
    "8-bit state of split": (BFLOAT16, BFLOAT16, {"state_dtype": "8bit", "master": "split"}),
}
AROUND = [
    {},
    {"clip_value": 0.5, "grad_scale": 0.25},
    {"clip_norm": 1.5, "average_decay": 0.75},
    {"clip_global_norm": 0.7, "statistics": True, "seed": 7},
    {"zero_grads": True, "average_decay": 0.9, "maximize": True, "clip_value": 2.0},
]


def numbers(random, size, dtype):
    """Mostly normal, of many sizes, with a few that are special."""
    x = random.standard_normal(size) * 10.0 ** random.uniform(-4, 2, size)
    if size:
        x[random.integers(0, size, size // 20)] = 0
        x[random.integers(0, size, size // 50)] = random.choice([np.inf, -np.inf, np.nan, 1e-40, 3e38], size // 50)
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def twin_step(optimizer, before, grads, options, step_count):
    """All arrays after a step of the twin, from what they were."""
    bound = options.get("clip_global_norm", 0)
    factor = around.clip_factor(around.norm(grads.values(), options.get("grad_scale", 1.0)), bound)
    after = {}
    for stream, place in enumerate(sorted(before["param"])):
        arrays = {name: before[name][place].copy("K") for name in before}
        grad = grads[place]
        if options.get("clip_norm"):
            factor = around.clip_factor(around.norm([grad], options.get("grad_scale", 1.0)), options["clip_norm"])
        param, copy = arrays["param"], None
        if "param_master" in arrays and arrays["param_master"].size:
            param, copy = arrays["param_master"], arrays["param"]
        states = {name: array for name, array in arrays.items() if name not in ("param", "param_master")}
        if "param_low" in states and not states["param_low"].size:
            del states["param_low"]
        around.step(
            optimizer.rule, param, grad, states, step_count=step_count, stream=stream, clip=factor, copy=copy, **options
        )
        after[place] = arrays
    return {name: {place: after[place][name] for place in after} for name in before}


def arrays_of(optimizer):
    return {"param": optimizer.params} | optimizer.state


def assert_same(actual, expected, situation):
    for name in expected:
        for place in expected[name]:
            a, b = actual[name][place], expected[name][place]
            assert a.dtype == b.dtype
            if a.dtype == np.int8:  # of which the last code, with either sign, is a NaN
                a, b = np.where(a == -1, 127, a), np.where(b == -1, 127, b)
            if a.dtype in (BFLOAT16, np.float16):
                same = (a.view(np.uint16) == b.view(np.uint16)) | (np.isnan(a) & np.isnan(b))
                assert same.all(), f"{name} of {place} at {np.flatnonzero(~same)[:5]}; {situation}"
            else:
                assert_same_bits({name: a}, {name: b}, f"{place}; {situation}")


@pytest.mark.parametrize("form", FORMS)
def test_bits_of_the_twin(rule, isa, form):
    random = np.random.default_rng(list(FORMS).index(form))
    param_dtype, grad_dtype, stored = FORMS[form]
    loops = one_of_each_loop(rule)
    for k, surroundings in enumerate(AROUND):
        options = loops[(7 * k) % len(loops)] | surroundings
        params = {str(size): numbers(random, size, param_dtype) for size in (1, 255, 256, 257, 1000)}
        params["2d"] = np.asfortranarray(numbers(random, 600, param_dtype).reshape(20, 30))
        optimizer = CLASSES[rule](params, **options, **stored)
        for t in range(1, 4):
            grads = {
                place: np.asarray(numbers(random, p.size, grad_dtype).reshape(p.shape), order="K")
                for place, p in params.items()
            }
            grads["2d"] = np.asfortranarray(grads["2d"])
            if "clip_global_norm" in options or "clip_norm" in options:
                grads = {place: np.where(np.isfinite(g), g, g.dtype.type(1)) for place, g in grads.items()}
            before = {name: {p: a.copy("K") for p, a in by.items()} for name, by in arrays_of(optimizer).items()}
            given = {place: grad.copy("K") for place, grad in grads.items()}
            optimizer.step(grads)
            expected = twin_step(optimizer, before, given, options, t)
            assert_same(arrays_of(optimizer), expected, f"{form}, step {t}, {options}")
            for place, grad in grads.items():
                wanted = np.zeros_like(grad) if options.get("zero_grads") else given[place]
                assert grad.tobytes("A") == wanted.tobytes("A"), place


@pytest.mark.parametrize("clip", ["clip_norm", "clip_global_norm"])
@pytest.mark.parametrize("form", ["float32", "float64", "bfloat16", "8-bit state"])
def test_an_infinite_norm_leaves_zeros_of_the_sign_that_the_twin_gives_them(rule, form, clip):
    param_dtype, grad_dtype, stored = FORMS[form]
    for options in one_of_each_loop(rule):
        options = options | {"maximize": True, clip: 0.5}
        params = {"w": np.linspace(-1, 1, 300).astype(param_dtype)}
        optimizer = CLASSES[rule](params, **options, **stored)
        for t in range(1, 3):
            grads = {"w": np.where(np.arange(300) % 2, 1, -1).astype(grad_dtype)}
            grads["w"][7] = np.inf
            before = {name: {p: a.copy("K") for p, a in by.items()} for name, by in arrays_of(optimizer).items()}
            optimizer.step(grads)
            assert_same(arrays_of(optimizer), twin_step(optimizer, before, grads, options, t), f"{form}, {options}")


@pytest.mark.parametrize("clip", ["clip_norm", "clip_global_norm"])
@pytest.mark.parametrize("form", ["float32", "float64", "bfloat16", "split", "8-bit state"])
def test_a_huge_norm_is_clipped_to_its_bound(rule, form, clip):
    """Though the factor is less than any normal float32."""
    param_dtype, grad_dtype, stored = FORMS[form]
    random = np.random.default_rng(1)
    for options in one_of_each_loop(rule)[::3]:
        for maximize, bound in [(False, 1.0), (True, 1e-3)]:
            options = options | {"maximize": maximize, clip: bound}
            params = {"w": np.linspace(-1, 1, 300).astype(param_dtype)}
            optimizer = CLASSES[rule](params, **options, **stored)
            grads = {"w": (random.standard_normal(300) * 10.0 ** random.uniform(-45, 38, 300)).astype(grad_dtype)}
            grads["w"][:3] = [3e38, -1e38, 0]
            before = {name: {p: a.copy("K") for p, a in by.items()} for name, by in arrays_of(optimizer).items()}
            optimizer.step(grads)
            assert_same(arrays_of(optimizer), twin_step(optimizer, before, grads, options, 1), f"{form}, {options}")
    param = np.zeros(2, param_dtype)
    optimizer = instep.SGD(param, lr=1.0, **{clip: 1.0})
    optimizer.step(np.array([3e38, 0], grad_dtype))
    assert param.tolist() == [-1, 0]


@pytest.mark.parametrize("form", [form for form in FORMS if FORMS[form][0] == "float64"])
@pytest.mark.parametrize("scale", [1e-38, 1e-44, 1e-300])
def test_a_value_is_clipped_to_its_bound_by_any_scale(rule, form, scale):
    """Though it is less than any normal float32, which only arrays of float64 are scaled by."""
    grad_dtype = FORMS[form][1]
    random = np.random.default_rng(2)
    bound = scale * (10 if grad_dtype == "float16" else 1e35)
    for options in one_of_each_loop(rule)[::3]:
        for maximize in (False, True):
            options = options | {"maximize": maximize, "clip_value": bound, "grad_scale": scale}
            optimizer = CLASSES[rule]({"w": np.linspace(-1, 1, 300)}, **options)
            grads = {"w": numbers(random, 300, grad_dtype)}
            grads["w"][:3] = [6e4, -6e4, 2.0**-24] if grad_dtype == "float16" else [3e37, -3e37, 1e30]
            before = {name: {p: a.copy("K") for p, a in by.items()} for name, by in arrays_of(optimizer).items()}
            optimizer.step(grads)
            assert_same(arrays_of(optimizer), twin_step(optimizer, before, grads, options, 1), f"{form}, {options}")


@pytest.mark.parametrize("maximize", [False, True])
def test_all_of_a_scale_comes_before_the_bound(maximize):
    grad = np.array([3e37, -3e37, 1e30])
    expected = np.array([1e-3, -1e-3, 1e-38 * 1e30]) * (1 if maximize else -1)
    param, of_twin = np.zeros(3), np.zeros(3)
    options = {"lr": 1.0, "grad_scale": 1e-38, "clip_value": 1e-3, "maximize": maximize}
    instep.SGD(param, **options).step(grad)
    around.step("sgd", of_twin, grad, {}, **options)
    assert param.tolist() == of_twin.tolist() == expected.tolist()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("form", FORMS)
def test_threads_change_no_bit(form, threads):
    """Large enough to be cut; every norm too."""
    param_dtype, grad_dtype, stored = FORMS[form]
    size = 3 * 256 * 256 + 77
    found = []
    for count in (1, threads):
        random = np.random.default_rng(3)
        instep.set_num_threads(count)
        params = {"a": numbers(random, size, param_dtype), "b": numbers(random, 999, param_dtype)}
        optimizer = instep.Adam(
            params, lr=0.1, average_decay=0.9, statistics=True, clip_global_norm=3.0, seed=5, **stored
        )
        for _ in range(2):
            grads = {place: random.standard_normal(p.size).astype(grad_dtype) for place, p in params.items()}
            optimizer.step(grads)
        found.append((arrays_of(optimizer), optimizer.norms, optimizer.grad_norm))
        assert optimizer.grad_norm == around.norm(grads.values())
    assert_same(found[1][0], found[0][0], form)
    assert str(found[1][1:]) == str(found[0][1:])


def test_norms_are_exact_sums():
    random = np.random.default_rng(4)
    for dtype in ("float32", "float64"):
        for size in (0, 1, 31, 256, 257, 70_000, 200_003):
            params, grad = np.zeros(size, dtype), hard(random, size, dtype)
            grad = np.where(np.isfinite(grad), grad, 1).astype(dtype)
            optimizer = instep.SGD([params], lr=0.1, statistics=True)
            optimizer.step([grad])
            expected = around.norm([grad])
            assert optimizer.grad_norm == expected
            assert optimizer.norms["grad"] == [expected]
            assert optimizer.norms["param"] == [around.norm([params])]
            assert optimizer.norms["update"] == [around.norm([params])]  # which started at 0


def test_norms_are_of_the_last_step():
    """Of nothing where it had no gradient, and of no update where it was skipped."""
    params = {"a": np.full((3, 2), 2.0), "b": np.full(2, 2.0)}
    optimizer = instep.SGD(params, lr=0.5, statistics=True, skip_nonfinite=True)
    optimizer.step({"a": np.ones((3, 2)), "b": np.ones(2)})
    assert optimizer.norms["update"] == {"a": 0.5 * 6**0.5, "b": 0.5 * 2**0.5}
    optimizer.step({"a": instep.Rows(np.array([1, 1]), np.ones((2, 2))), "b": None})
    assert optimizer.norms == {
        "grad": {"a": 8**0.5, "b": 0.0},
        "update": {"a": 2**0.5, "b": 0.0},
        "param": {"a": 0.5 * 2**0.5, "b": 0.0},
    }
    optimizer.step_one("b", np.ones(2))
    assert optimizer.norms["grad"] == {"a": 8**0.5, "b": 2**0.5}
    assert optimizer.grad_norm == 2**0.5
    optimizer.step({"a": np.full((3, 2), 3.0), "b": np.full(2, np.inf)})
    assert optimizer.norms == {
        "grad": {"a": 54**0.5, "b": np.inf},
        "update": {"a": 0.0, "b": 0.0},
        "param": {"a": 0.0, "b": 0.0},
    }


def test_norms_are_of_what_was_computed():
    param = np.ones(4, BFLOAT16)
    optimizer = instep.SGD(param, lr=1.0, statistics=True)
    optimizer.step(np.full(4, 1e-4, np.float32))
    assert optimizer.norms["update"] == pytest.approx(2e-4, rel=1e-3)


@pytest.mark.parametrize("row", [(1,), (7,), (100,), (128,), (129,), (256,), (3, 100), (700,)], ids=str)
@pytest.mark.parametrize("grad_dtype", ["float64", "float32", "float16", BFLOAT16])
def test_norms_of_rows(row, grad_dtype):
    """For any order of the rows, and where some of them are summed."""
    random = np.random.default_rng(sum(row))
    param = np.zeros((500, *row), "float64" if grad_dtype == "float64" else "float32")
    optimizer = instep.SGD(param, lr=0.0, statistics=True)
    for indices in (np.arange(97), random.permutation(500)[:97], random.integers(0, 60, 97), np.arange(0)):
        values = random.standard_normal((len(indices), *row)) * 10.0 ** random.uniform(-4, 2, (len(indices), *row))
        rows = instep.Rows(indices, values.astype(grad_dtype))
        optimizer.step(rows)
        assert optimizer.grad_norm == around.norm([rows])
        assert optimizer.norms["grad"] == optimizer.grad_norm


# ---- skipping ----


def test_a_step_of_what_is_not_finite_is_skipped_whole(rule, dtype):
    for options in one_of_each_loop(rule)[::9]:
        params = [np.ones(300, dtype), np.ones((3, 5), dtype)]
        optimizer = CLASSES[rule](params, **options, skip_nonfinite=True, average_decay=0.5)
        good = [np.full_like(p, 0.5) for p in params]
        optimizer.step(good)
        before = optimizer.state_dict(), [p.copy() for p in params]
        for value in (np.nan, np.inf, -np.inf):
            bad = [g.copy() for g in good]
            bad[1][2, 4] = value
            optimizer.step(bad)
            after = optimizer.state_dict()
            assert after.pop("skipped_steps") == optimizer.skipped_steps
            assert after.pop("finite_steps") == 0
            assert str(after) == str({k: v for k, v in before[0].items() if k not in ("skipped_steps", "finite_steps")})
            for a, b in zip(params, before[1], strict=True):
                assert a.tobytes() == b.tobytes()
            assert math.isnan(optimizer.grad_norm) or math.isinf(optimizer.grad_norm)
        assert optimizer.skipped_steps == 3
        optimizer.step(good)
        assert optimizer.step_count == 2


@pytest.mark.parametrize("form", ["float32", "bfloat16 gradient", "bfloat16", "float16"])
def test_a_step_is_skipped_if_its_gradients_overflow_once_they_are_scaled(form):
    param_dtype, grad_dtype, stored = FORMS[form]
    big = 6e4 if grad_dtype == "float16" else 1e37
    for skips in ({"skip_nonfinite": True}, {"grow_every": 5}, {"skip_nonfinite": True, "clip_norm": 1.0}):
        param = np.ones(3, param_dtype)
        optimizer = instep.SGD(param, lr=2.0**-100, grad_scale=2e38 / big * 2, **skips, **stored)
        optimizer.step(np.array([1, big, 0], grad_dtype))
        assert optimizer.skipped_steps == 1
        assert optimizer.step_count == 0
        assert (param == 1).all()
        optimizer.grad_scale = 1.0
        optimizer.step(np.array([1, big, big], grad_dtype))
        assert optimizer.step_count == 1
    param = np.ones(3)
    optimizer = instep.SGD(param, lr=1e-40, grad_scale=100.0, skip_nonfinite=True)
    optimizer.step(np.full(3, 1e37, grad_dtype) if big == 1e37 else np.full(3, 1e37, "float32"))
    assert optimizer.step_count == 1  # in float64


def test_large_gradients_that_are_not_scaled_are_stepped():
    param = np.zeros(4, np.float32)
    optimizer = instep.SGD(param, lr=2e-38, skip_nonfinite=True)
    optimizer.step(np.full(4, 3e38, np.float32))
    assert optimizer.skipped_steps == 0
    assert (param == np.float32(2e-38) * np.float32(-3e38)).all()


def test_the_gradients_of_a_skipped_step_are_zeroed_too():
    """Else a trainer that adds to them would keep what is not finite, and skip every step after it."""
    param, grad = np.zeros(300, np.float32), np.ones(300, np.float32)
    optimizer = instep.SGD(param, lr=1.0, skip_nonfinite=True, zero_grads=True)
    grad[7] = np.inf
    optimizer.step(grad)
    assert optimizer.skipped_steps == 1
    assert not grad.any()
    grad += 1
    optimizer.step(grad)
    assert (param == -1).all()


def test_a_dynamic_loss_scale_halves_and_doubles():
    """That of torch's GradScaler with a growth factor of 2, a backoff of 0.5 and this interval."""
    param = np.zeros(3)
    optimizer = instep.SGD(param, lr=1.0, grad_scale=2.0**-4, grow_every=3)
    seen = []
    for value in [1, 1, 1, np.inf, 1, 1, np.nan, 1, 1, 1, 1]:
        optimizer.step(np.full(3, value * optimizer.loss_scale))
        seen.append(optimizer.loss_scale)
    assert seen == [16, 16, 32, 16, 16, 16, 8, 8, 8, 16, 16]
    assert (param == -9).all()
    assert optimizer.skipped_steps == 2


@pytest.mark.parametrize("start", [2.0**-99, 2.0**-15, 1.0, 2.0**99])
def test_a_dynamic_loss_scale_goes_by_its_rule(start):
    """Of any sequence: it halves with every step that is skipped, and doubles with every third in a row that is not."""
    random = np.random.default_rng(7)
    optimizer = instep.SGD(np.zeros(3), lr=1.0, grad_scale=start, grow_every=3)
    scale, row, skipped = 1 / start, 0, 0
    for is_finite in random.random(60) < 0.7:
        optimizer.step(np.full(3, 1.0 if is_finite else np.inf))
        if is_finite:
            row += 1
            if row == 3:
                row, scale = 0, min(2 * scale, 2.0**100)
        else:
            row, skipped, scale = 0, skipped + 1, max(scale / 2, 2.0**-100)
        assert optimizer.loss_scale == scale
        assert optimizer.skipped_steps == skipped
        assert optimizer.state_dict()["finite_steps"] == row


# ---- accumulation ----


@pytest.mark.parametrize("form", FORMS)
def test_the_bits_of_a_step_of_a_sum(form):
    """In the arithmetic of a step, one after the other."""
    random = np.random.default_rng(11)
    param_dtype, grad_dtype, stored = FORMS[form]
    params = {str(size): numbers(random, size, param_dtype) for size in (1, 300)}
    wide = np.float64 if param_dtype == "float64" else np.float32
    optimizer = instep.Adam(params, grad_scale=1 / 3, **stored)
    sums = {}
    for _ in range(3):
        grads = {place: numbers(random, p.size, grad_dtype) for place, p in params.items()}
        optimizer.accumulate(grads)
        for place, grad in grads.items():
            number = storage.as_numbers(grad)
            if place in sums:
                sums[place] = run_in_step_arithmetic(np.add, (sums[place], number), {"dtype": wide})
            else:
                sums[place] = run_in_step_arithmetic(number.astype, (wide,), {})
    before = {name: {p: a.copy("K") for p, a in by.items()} for name, by in arrays_of(optimizer).items()}
    optimizer.step()
    assert_same(arrays_of(optimizer), twin_step(optimizer, before, sums, {"grad_scale": 1 / 3}, 1), form)


def test_the_bits_of_a_step_of_summed_rows():
    random = np.random.default_rng(12)
    table, other = np.ones((9, 5), np.float32), np.ones((9, 5), np.float32)
    optimizer, once = instep.Adam(table), instep.Adam(other)
    given = [
        (random.integers(0, 9, 7), (random.standard_normal((7, 5)) * 10.0 ** random.uniform(-44, 3, (7, 5))))
        for _ in range(3)
    ]
    for indices, values in given:
        optimizer.accumulate(instep.Rows(indices, values.astype(BFLOAT16)))
    optimizer.step()
    every = np.concatenate([values for _, values in given]).astype(BFLOAT16)
    once.step(instep.Rows(*storage.summed(np.concatenate([indices for indices, _ in given]), every, np.float32)))
    assert table.tobytes() == other.tobytes()


@pytest.mark.parametrize("grad_dtype", ["float32", "float16", BFLOAT16])
def test_accumulated_gradients(grad_dtype):
    random = np.random.default_rng(5)
    grads = [
        [random.standard_normal((4, 5)).astype(grad_dtype), random.standard_normal(3).astype(grad_dtype)]
        for _ in range(3)
    ]
    params = [np.ones((4, 5), np.float32), np.ones(3, np.float32)]
    optimizer = instep.Adam(params, grad_scale=1 / 3)
    for grad in grads:
        optimizer.accumulate(grad)
    optimizer.step()
    other = [np.ones((4, 5), np.float32), np.ones(3, np.float32)]
    once = instep.Adam(other, grad_scale=1 / 3)
    total = [
        sum((np.asarray(g[k], np.float32) for g in grads[1:]), start=np.asarray(grads[0][k], np.float32))
        for k in range(2)
    ]
    once.step(total)
    for a, b in zip(params, other, strict=True):
        assert a.tobytes() == b.tobytes()
    with pytest.raises(TypeError, match="bind"):
        optimizer.step()
    optimizer.accumulate(grads[0])
    with pytest.raises(TypeError, match=r"accumulate\(None\) forgets"):
        optimizer.step(grads[0])
    with pytest.raises(TypeError, match=r"accumulate\(None\) forgets"):
        optimizer.step_one(0, grads[0][0])
    optimizer.accumulate(None)
    optimizer.step(grads[0])


@pytest.mark.parametrize("grad_dtype", ["float64", "float32", "float16", BFLOAT16])
def test_a_sum_of_one_gradient_is_that_gradient(grad_dtype):
    """Also of numbers that are subnormal in their own type, and so 0 for a step, and normal in the parameter's."""
    sizes = [1e-310, 1e-40, -1e-40, 6e-8, 1.2e-38, 1e-3, -0.0, np.inf, np.nan]
    grad = np.array(sizes).astype(grad_dtype).reshape(9, 1)
    found = []
    for given in (grad, instep.Rows(np.arange(9), grad)):
        for accumulates in (False, True):
            param = np.zeros((9, 1))
            optimizer = instep.Adam(param, lr=1.0, eps=1e-300)
            if accumulates:
                optimizer.accumulate(given)
                optimizer.step()
            else:
                optimizer.step(given)
            found.append(param)
    for param in found[1:]:
        assert param.tobytes() == found[0].tobytes()


@pytest.mark.parametrize("grad_dtype", ["float32", "float16", BFLOAT16])
def test_accumulated_gradients_without_dimensions(grad_dtype):
    param = np.zeros((), np.float32)
    optimizer = instep.SGD(param, lr=1.0)
    optimizer.accumulate(np.array(0.5, grad_dtype))
    optimizer.accumulate(np.array(0.25, grad_dtype))
    optimizer.step()
    assert param == -0.75


def test_accumulation_does_not_depend_on_what_numpy_warns_of():
    param = np.zeros(2, np.float32)
    optimizer = instep.SGD(param, lr=1.0)
    with np.errstate(all="raise"):
        optimizer.accumulate(np.array([3e38, 1], np.float32))
        optimizer.accumulate(np.array([3e38, 1], np.float32))
        optimizer.step()
    assert param.tolist() == [-np.inf, -2]


def test_a_sum_of_nothing_is_none():
    param, grad = np.zeros(2), np.ones(2)
    optimizer = instep.SGD({"w": param}, lr=1.0)
    optimizer.accumulate({"w": None})
    with pytest.raises(TypeError, match="bind"):
        optimizer.step()
    optimizer.step({"w": grad})
    assert (param == -1).all()


def test_summed_rows_can_be_set_to_0():
    param = np.zeros((3, 2))
    rows = instep.Rows(np.array([1]), np.ones((1, 2)))
    optimizer = instep.SGD({"w": param}, lr=1.0, zero_grads=True)
    optimizer.accumulate({"w": rows})
    optimizer.accumulate({"w": rows})
    optimizer.step()
    assert param.tolist() == [[0, 0], [-2, -2], [0, 0]]
    assert (rows.values == 1).all()


def test_a_state_that_is_loaded_is_one_without_a_sum(tmp_path):
    param = np.zeros(2)
    optimizer = instep.SGD(param, lr=1.0)
    optimizer.save(tmp_path / "a")
    for load in (lambda: optimizer.load(tmp_path / "a"), lambda: optimizer.load_state_dict(optimizer.state_dict())):
        optimizer.accumulate(np.ones(2))
        load()
        with pytest.raises(TypeError, match="bind"):
            optimizer.step()
    optimizer.step(np.ones(2))
    assert (param == -1).all()


# ---- groups ----


def test_groups(rule):
    options = one_of_each_loop(rule)[-1]
    arrays = {"a": {"w": np.ones(10), "b": np.ones(3)}, "c": {"w": np.ones(300), "b": np.ones(7)}}
    grads = {"a": {"w": np.full(10, 0.5), "b": np.full(3, 0.25)}, "c": {"w": np.ones(300), "b": np.ones(7)}}
    other = {"*/b": dict(lr=options["lr"] / 2, weight_decay=0.0), "c/w": dict(maximize=True)}
    optimizer = CLASSES[rule](arrays, **options, groups=other)
    alone = {
        place: CLASSES[rule]([np.ones(size)], **(options | other.get(pattern, {})))
        for place, size, pattern in [("a/w", 10, ""), ("a/b", 3, "*/b"), ("c/w", 300, "c/w"), ("c/b", 7, "*/b")]
    }
    for step in range(4):
        if step == 2:
            optimizer.lr = options["lr"] * 3
            optimizer.groups["c/w"].weight_decay = 0.5
            alone["a/w"].lr = alone["c/w"].lr = options["lr"] * 3
            alone["c/w"].weight_decay = 0.5
        optimizer.step(grads)
        for place, single in alone.items():
            first, last = place.split("/")
            single.step([grads[first][last]])
            assert arrays[first][last].tobytes() == single.params[0].tobytes(), place
    assert optimizer.groups["*/b"].lr == options["lr"] / 2
    assert optimizer.groups["c/w"].lr == options["lr"] * 3
    again = CLASSES[rule](arrays, **options)
    again.load_state_dict(optimizer.state_dict())
    assert again._patterns == optimizer._patterns


def test_bad_groups():
    params = {"w": np.ones(3), "b": np.ones(2)}
    for groups, error, message in [
        ([1], TypeError, "groups must be a dict"),
        ({1: {}}, TypeError, "a pattern must be a str"),
        ({"b": 1}, TypeError, r"groups\['b'\] must be a dict of options"),
        ({"x*": {}}, ValueError, r"matches no array; there are 'w', 'b'"),
        ({"[w]x": {}}, ValueError, r"matches no array; there are 'w', 'b'"),
        ({"b": {}, "*": {}}, ValueError, r"both match 'b'"),
        ({"b": {"alpha": 1}}, TypeError, "alpha"),
        ({"b": {"lr": -1}}, ValueError, r"groups\['b'\]: lr=-1.0 must not be negative"),
        ({"b": {"seed": 1}}, ValueError, "seed is of the step"),
        ({"b": {"momentum": 0.9}}, ValueError, "all arrays have the same states"),
        ({"b": {"nesterov": True}}, ValueError, "needs momentum"),
    ]:
        with pytest.raises(error, match=message):
            instep.RMSprop(params, groups=groups)
    with pytest.raises(ValueError, match=re.escape("glob.escape gives 'a[[]0]', which is that place alone")):
        instep.RMSprop({"a[0]": np.ones(3)}, groups={"a[0]": {"lr": 0.5}})
    assert instep.RMSprop({"a[0]": np.ones(3)}, groups={"a[[]0]": {"lr": 0.5}}).groups["a[[]0]"].lr == 0.5
    with pytest.raises(TypeError, match=r"must be a str or an int for groups, not \('a', 'b'\)"):
        instep.RMSprop({("a", "b"): np.ones(3)}, groups={"*": {"lr": 0.5}})
    with pytest.raises(ValueError, match="is not Unicode text, as it must be for groups"):
        instep.RMSprop({"\ud800": np.ones(3)}, groups={"*": {"lr": 0.5}})
    optimizer = instep.RMSprop(params, groups={"b": {"lr": 0.5}})
    with pytest.raises(ValueError, match="must not be negative"):
        optimizer.groups["b"].lr = -1
    with pytest.raises(AttributeError):
        optimizer.groups["b"].alpha = 1
    with pytest.raises(TypeError, match="item assignment"):
        optimizer.groups["b"] = {"lr": 1.0}
    with pytest.raises(TypeError, match="item deletion"):
        del optimizer.groups["b"]
    with pytest.raises(KeyError):
        optimizer.groups["w"]
    assert optimizer.groups["b"].lr == 0.5
    assert repr(optimizer).endswith("groups={'b': {'lr': 0.5}})")


def test_a_group_that_a_load_has_dropped():
    def params():
        return {"a": np.ones(3), "b": np.ones(3)}

    optimizer = instep.SGD(params(), groups={"b": {"lr": 0.5}})
    group = optimizer.groups["b"]
    kept = optimizer.state_dict()
    optimizer.load_state_dict(instep.SGD(params(), groups={"a": {"lr": 0.25}}).state_dict())
    message = r"^the optimizer has no group 'b' any more: the state that was loaded has other groups$"
    for use in (lambda: group.lr, lambda: group.options, lambda: group.changes, lambda: setattr(group, "lr", 1.0)):
        with pytest.raises(RuntimeError, match=message):
            use()
    with pytest.raises(AttributeError, match="no option 'alpha'"):
        group.alpha = 1.0
    assert repr(group) == "Group('b', gone)"
    assert optimizer._patterns == {"a": {"lr": 0.25}}
    optimizer.load_state_dict(kept)
    assert repr(group) == "Group('b', lr=0.5)"
    group.lr = 2.0
    assert optimizer.groups["b"].lr == group.lr == 2.0
    assert repr(instep.SGD(params(), groups={"b": {}}).groups["b"]) == "Group('b')"


# ---- averages, zeroed gradients, statistics ----


def test_averaged_parameters_come_and_go():
    params = {"w": np.zeros(4), "h": np.zeros(3, BFLOAT16)}
    optimizer = instep.SGD(params, lr=1.0, average_decay=0.5)
    for _ in range(3):
        optimizer.step({"w": np.ones(4), "h": np.ones(3, BFLOAT16)})
    assert (params["w"] == -3).all()
    with optimizer.averaged() as shown:
        assert shown["w"] is params["w"]
        assert (params["w"] == -2.25).all()
        assert (params["h"] == -2.25).all()
        with pytest.raises(RuntimeError, match="averaged"):
            optimizer.step({"w": np.ones(4), "h": np.ones(3, BFLOAT16)})
        with pytest.raises(RuntimeError, match="already"), optimizer.averaged():
            pass
    assert (params["w"] == -3).all()
    optimizer.average_decay = 0
    assert list(optimizer.state) == []
    with pytest.raises(ValueError, match="average_decay > 0"), optimizer.averaged():
        pass


def test_averages_do_not_depend_on_what_numpy_warns_of():
    params = [np.ones(3, np.float16), np.ones(3, np.float16)]
    optimizer = instep.SGD(params, lr=1.0, average_decay=0.5, master="float32")
    optimizer.state["param_avg"][1][:] = 1e30
    with np.errstate(all="raise"), optimizer.averaged() as shown:
        assert np.isinf(shown[1]).all()
    assert (params[1] == 1).all()
    optimizer.step([np.ones(3, np.float16)] * 2)


def test_parameters_that_cannot_be_put_back_are_put_back_later():
    params = [np.ones(3), np.ones(3)]
    optimizer = instep.SGD(params, lr=1.0, average_decay=0.5)
    for _ in range(2):
        optimizer.step([np.ones(3)] * 2)
    with pytest.raises(ValueError, match=r"params\[1\] has become read-only"), optimizer.averaged():
        params[1].flags.writeable = False
    assert params[0].tolist() == params[1].tolist() == [-0.5] * 3
    for refused in (lambda: optimizer.step([np.ones(3)] * 2), lambda: optimizer.averaged().__enter__()):
        with pytest.raises(ValueError, match=r"params\[1\] has become read-only"):
            refused()
    params[1].flags.writeable = True
    optimizer.step([np.ones(3)] * 2)
    assert params[0].tolist() == params[1].tolist() == [-2] * 3
    with optimizer.averaged():
        assert params[0].tolist() == [-1.25] * 3
    assert params[0].tolist() == [-2] * 3


@pytest.mark.parametrize("form", ["float32", "float64", "bfloat16", "split", "float32 master of float16"])
def test_an_average_begins_at_the_parameters_whatever_they_were_before(form, isa):
    param_dtype, _, stored = FORMS[form]
    params = {"whole": np.full(256, np.nan, param_dtype), "part": np.full(5, np.inf, param_dtype)}
    optimizer = instep.SGD(params, lr=1.0, average_decay=0.5, **stored)
    for arrays in [params, *(optimizer.state[name] for name in optimizer.state if name == "param_master")]:
        for array in arrays.values():
            array[...] = -2  # loaded
    for array in optimizer.state.get("param_low", {}).values():
        array[...] = 0
    optimizer.step({place: np.ones(param.shape, np.float32) for place, param in params.items()})
    for place, param in params.items():
        assert (param == -3).all()
        assert (optimizer.state["param_avg"][place] == -3).all()


def test_an_average_that_begins_later_begins_at_the_parameters():
    param = np.zeros(4)
    optimizer = instep.SGD(param, lr=1.0)
    optimizer.step(np.ones(4))
    optimizer.average_decay = 0.5
    assert (optimizer.state["param_avg"] == -1).all()
    optimizer.step(np.ones(4))
    assert (optimizer.state["param_avg"] == -1.5).all()


@pytest.mark.parametrize("master", ["split", "float32"])
def test_an_average_that_begins_later_has_the_bits_beside_the_parameter(master):
    params = [np.ones((3, 4), BFLOAT16), np.ones((4, 3), BFLOAT16).T, np.ones(5, np.float32)]
    wide = [param.astype(np.float32) for param in params]
    optimizer, other = instep.SGD(params, lr=1e-3, master=master), instep.SGD(wide, lr=1e-3)
    for each, arrays in ((optimizer, params), (other, wide)):
        each.step([np.ones_like(array) for array in arrays])
        each.average_decay = 0.5
    for one, same in zip(optimizer.state["param_avg"], other.state["param_avg"], strict=True):
        assert one.tobytes("A") == same.tobytes("A")
        assert one.strides == same.strides


def test_gradients_that_cannot_be_zeroed():
    params = [np.ones((2, 3)), np.ones((2, 3))]
    optimizer = instep.RMSprop(params, zero_grads=True)
    one, frozen = np.ones((2, 3)), np.ones((2, 3))
    frozen.flags.writeable = False
    for grads, message in [
        ([one, frozen], "read-only and cannot be set to 0"),
        ([one, one], "both would be set to 0"),
        ([one, np.ones((3, 2)).T], "cannot be set to 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            optimizer.step(grads)
        assert (params[0] == 1).all()
        assert (one == 1).all()
    optimizer.bind([one, np.ones((2, 3))])
    optimizer.step()
    assert (one == 0).all()


def test_clips_exclude_each_other():
    param = np.ones(3)
    with pytest.raises(ValueError, match="another way to clip"):
        instep.RMSprop(param, clip_value=1.0, clip_norm=1.0)
    optimizer = instep.RMSprop(param, clip_norm=1.0)
    with pytest.raises(ValueError, match="another way to clip"):
        optimizer.clip_global_norm = 1.0
    with pytest.raises(TypeError, match="integer"):
        optimizer.seed = 1.5
    with pytest.raises(ValueError, match="integer from 0 to"):
        optimizer.seed = -1
    with pytest.raises(ValueError, match="statistics=True"):
        optimizer.norms  # noqa: B018


# ---- formats ----


def test_a_split_master_trains_as_float32():
    """Exactly: the two halves together are the float32 parameter."""
    random = np.random.default_rng(8)
    start = random.standard_normal(1000).astype(BFLOAT16)
    wide, split = start.astype(np.float32), start.copy()
    a, b = instep.Adam(wide), instep.Adam(split, master="split")
    for _ in range(50):
        grad = random.standard_normal(1000).astype(BFLOAT16)
        a.step(grad)
        b.step(grad)
    whole = instep.storage.from_split(split.view(np.uint16), b.state["param_low"])
    assert whole.tobytes() == wide.tobytes()


@pytest.mark.parametrize("few", [BFLOAT16, np.dtype("float16")], ids=str)
def test_a_copy_is_rounded_to_the_nearest(few, isa):
    """As NumPy rounds: it is a function of the master alone, so that nothing moves where no step does."""
    every = np.arange(2**16, dtype=np.uint16).view(few).astype(np.float32)
    every = every[np.isfinite(every) & (np.abs(every) >= np.finfo(np.float32).tiny)]
    lower, upper = np.sort(every)[:-1], np.sort(every)[1:]
    ties = ((lower.astype(np.float64) + upper) / 2).astype(np.float32)  # each between two that are as near
    with np.errstate(over="ignore"):
        values = np.concatenate([every, ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)])
    past = np.array([65519.0, 65520.0, 65536.0, 3.39e38, 3.4e38, np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    values = np.concatenate([values, past, -past])
    model = {"w": np.zeros(values.size, few), "b": np.zeros(3, few)}
    optimizer = instep.SGD(model, lr=0.0, master="float32")
    optimizer.state["param_master"]["w"][...] = values
    optimizer.state["param_master"]["b"][...] = 1.001
    with np.errstate(all="ignore"):
        expected = {place: master.astype(few) for place, master in optimizer.state["param_master"].items()}
    for _ in range(3):
        optimizer.step({place: np.ones(p.shape, few) for place, p in model.items()})
        assert_same({"copy": model}, {"copy": expected}, isa)


def test_averages_in_few_bits_do_not_stall():
    """Rounded to the nearest, one that starts at 1 would stay there for ever."""
    for state_dtype in ("bfloat16", "8bit"):
        param = np.zeros(4096, np.float32)
        optimizer = instep.RMSprop(param, rho=0.999, initial_square_avg=1.0, state_dtype=state_dtype)
        for _ in range(8000):
            optimizer.step(np.full(4096, 0.1, np.float32))
        stored = optimizer.state["square_avg"]
        form = instep.storage.BYTE
        v = stored.astype(np.float32) if state_dtype == "bfloat16" else instep.storage.from_bytes(form, stored, 4096)
        assert 0.0095 < v.mean() < 0.0108, state_dtype


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
@pytest.mark.parametrize(
    ("rule", "options", "change"),
    [
        ("sgd", dict(momentum=0.9), dict(lr_in_momentum=True)),
        ("sgd", dict(momentum=0.9, lr_in_momentum=True), dict(lr_in_momentum=False)),
        ("rmsprop", dict(momentum=0.9), dict(lr_in_momentum=True)),
        ("rmsprop", dict(centered=True), dict(centered=False)),
        ("rmsprop", dict(centered=True, momentum=0.5), dict(centered=False, lr_in_momentum=True)),
    ],
)
def test_options_convert_states_of_fewer_bits(state_dtype, rule, options, change):
    """As those of float32 with the same numbers, rounded once, to the nearest."""
    random = np.random.default_rng(11)
    shapes = [(300, 3), (4, 70), (), (5,)]
    params = [np.asarray(random.standard_normal(shape), np.float32) for shape in shapes]
    params[1] = np.asfortranarray(params[1])
    optimizer = CLASSES[rule]([p.copy("K") for p in params], lr=0.1, state_dtype=state_dtype, **options)
    for _ in range(3):
        optimizer.step([np.asarray(random.standard_normal(shape), np.float32) for shape in shapes])

    def numbers_of(optimizer):
        return {
            name: [storage.decoded(array, param) for array, param in zip(arrays, params, strict=True)]
            for name, arrays in optimizer.state.items()
        }

    wide = CLASSES[rule](params, lr=0.1, **options, state=numbers_of(optimizer), step_count=3)
    for name, value in change.items():
        setattr(wide, name, value)
        setattr(optimizer, name, value)
    assert wide.state.keys() == optimizer.state.keys()
    for name, arrays in numbers_of(optimizer).items():
        for k, found in enumerate(arrays):
            exact = wide.state[name][k]
            near = np.abs(exact) * (2**-8 if state_dtype == "bfloat16" else 1 / 16)
            if state_dtype == "8bit":  # and no less than a step of the smallest
                near += np.abs(exact).max(initial=0) * 2.0**-15
            assert found.shape == exact.shape
            assert (np.abs(found - exact) <= near).all(), (name, k)
            assert optimizer.state[name][k].strides == storage.encoded(exact, optimizer.state[name][k]).strides
            same = storage.encoded(exact, optimizer.state[name][k]).tobytes("A")
            if len(change) == 1:
                assert optimizer.state[name][k].tobytes("A") == same, (name, k)
    optimizer.step([np.asarray(random.standard_normal(shape), np.float32) for shape in shapes])


def test_bad_forms():
    with pytest.raises(ValueError, match="state_dtype='int4' must be None, 'bfloat16' or '8bit'"):
        instep.RMSprop(np.ones(3, np.float32), state_dtype="int4")
    with pytest.raises(ValueError, match=r"params\[1\] is float64"):
        instep.RMSprop([np.ones(3, np.float32), np.ones(3)], state_dtype="8bit")
    with pytest.raises(ValueError, match="float16: use master='float32'"):
        instep.RMSprop(np.ones(3, np.float16), master="split")
    for name in ("state_dtype", "master"):
        for bad in (np.array([1, 2]), [], np.float32, True):
            with pytest.raises(ValueError, match=rf"^{name}={re.escape(repr(bad))} must be None, '"):
                instep.RMSprop(np.ones(3, np.float16), **{name: bad})
    for states in ({}, {"param_avg": np.zeros(3)}):
        message = r"^states lacks 'square_avg'(, 'param_avg')?: rmsprop needs it with these options$"
        with pytest.raises(ValueError, match=message):
            around.step("rmsprop", np.ones(3), np.ones(3), states, average_decay=0.5)
    with pytest.raises(ValueError, match="master='none'"):
        instep.RMSprop(np.ones(3, np.float16), master="none")
    optimizer = instep.RMSprop([np.ones(3, np.float32)])
    with pytest.raises(TypeError, match="dtype float64, expected float32"):
        optimizer.step([np.ones(3)])
    with pytest.raises(TypeError, match="dtype int8"):
        optimizer.step([np.ones(3, np.int8)])


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints(form, tmp_path):
    param_dtype, grad_dtype, stored = FORMS[form]
    random = np.random.default_rng(9)

    def run(optimizer, steps):
        for t in steps:
            draw = np.random.default_rng(t)
            optimizer.step(
                {place: draw.standard_normal(p.shape).astype(grad_dtype) for place, p in optimizer.params.items()}
            )

    params = {place: random.standard_normal(size).astype(param_dtype) for place, size in (("w", 700), ("b", 3))}
    around_it = dict(average_decay=0.9, clip_norm=1.0, grow_every=2, grad_scale=0.5, seed=3, groups={"b": {"lr": 0.5}})
    optimizer = instep.Adam(params, lr=0.1, **around_it, **stored)
    run(optimizer, range(3))
    optimizer.save(tmp_path / "a")
    kept = {place: p.copy() for place, p in params.items()}
    run(optimizer, range(3, 6))
    again = instep.load(tmp_path / "a", kept)
    run(again, range(3, 6))
    assert_same(arrays_of(again), arrays_of(optimizer), form)
    assert again.options == optimizer.options
    assert Options("adam").of_step[0] == "grad_scale"


@pytest.mark.parametrize("form", [form for form in FORMS if "bit" in form or "float16" in form])
def test_the_order_of_a_dict_changes_no_bit(form, tmp_path):
    """Neither of one that is made nor of one that is loaded: what is rounded at random is known by its keys."""
    param_dtype, grad_dtype, stored = FORMS[form]
    random = np.random.default_rng(10)
    start = {
        "b": random.standard_normal(300).astype(param_dtype),
        10: [random.standard_normal(30).astype(param_dtype) for _ in range(11)],
        "a": {9: random.standard_normal(300).astype(param_dtype), "9": random.standard_normal(7).astype(param_dtype)},
        2: random.standard_normal((3, 4)).astype(param_dtype),
    }

    def ordered(nesting, key):
        if isinstance(nesting, list):
            return [array.copy() for array in nesting]
        if isinstance(nesting, dict):
            return {place: ordered(nesting[place], key) for place in sorted(nesting, key=key)}
        return nesting.copy()

    def by_place(optimizer):
        return dict(zip(map(spell_path, optimizer._paths), optimizer._leaves, strict=True))

    def gradients(nesting, path, found):
        if isinstance(nesting, list):
            return [gradients(child, (*path, k), found) for k, child in enumerate(nesting)]
        if isinstance(nesting, dict):
            return {key: gradients(child, (*path, key), found) for key, child in nesting.items()}
        return found[spell_path(path)][: nesting.size].reshape(nesting.shape)

    def run(optimizer):
        for t in range(3):
            draw = np.random.default_rng(t)
            found = {place: draw.standard_normal(300).astype(grad_dtype) for place in sorted(by_place(optimizer))}
            optimizer.step(gradients(optimizer.params, (), found))

    orders = [
        lambda key: 0,
        str,
        lambda key: [-ord(letter) for letter in str(key)],
        lambda key: (isinstance(key, int), str(key)),
    ]
    made = [instep.Adam(ordered(start, key), lr=0.1, **stored) for key in orders]
    for optimizer in made:
        run(optimizer)
    made[0].save(tmp_path / "a")
    again = [instep.load(tmp_path / "a", ordered(made[0].params, key)) for key in orders]
    for optimizer in again:
        run(optimizer)
    for same in (made, again):
        for optimizer in same[1:]:
            for place, array in by_place(same[0]).items():
                assert array.tobytes() == by_place(optimizer)[place].tobytes(), place


def test_arrays_whose_keys_have_no_order_are_numbered_as_they_come():
    arrays = {None: np.ones(300, BFLOAT16), ("a", 1): np.ones(300, BFLOAT16), "a": np.ones(300, BFLOAT16)}
    listed = [array.copy() for array in arrays.values()]
    instep.SGD(arrays, lr=1e-3).step({key: np.ones(300, BFLOAT16) for key in arrays})
    instep.SGD(listed, lr=1e-3).step([np.ones(300, BFLOAT16) for _ in arrays])
    for one, other in zip(arrays.values(), listed, strict=True):
        assert one.tobytes() == other.tobytes()


def test_states_are_named(rule):
    optimizer = CLASSES[rule](np.ones(3, BFLOAT16), master="split", average_decay=0.5, lr=0.1)
    assert list(optimizer.state) == [*states_of(rule, optimizer.options), "param_low"]
