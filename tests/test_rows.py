"""Gradients of some rows of a parameter: put in order and summed, stepped alone, refused where they are wrong."""

import copy
import pickle
import re
from functools import cache

import numpy as np
import pytest

import instep
from instep import around, storage
from test_around import BFLOAT16, FORMS, numbers
from trials import CLASSES, assert_same_bits, fits, one_of_each_loop, refusal


@pytest.mark.parametrize("form", [form for form in FORMS if "8-bit" not in form])
def test_rows(rule, form):
    """Those named take the step that they would take alone; the others are not written."""
    param_dtype, grad_dtype, stored = FORMS[form]
    if stored or param_dtype in (BFLOAT16, "float16"):  # whose random numbers go by the element's place
        return
    random = np.random.default_rng(6)
    for options in one_of_each_loop(rule)[::5]:
        table = numbers(random, 50 * 6, param_dtype).reshape(50, 2, 3)
        own = table.copy()
        optimizer = CLASSES[rule]([own], **options)
        for t in range(1, 4):
            indices = random.integers(0, 50, 12)
            values = random.standard_normal((12, 2, 3)).astype(grad_dtype)
            before = {name: [a.copy() for a in arrays] for name, arrays in optimizer.state.items()}
            table = own.copy()
            optimizer.step([instep.Rows(indices, values)])
            wide = np.asarray(values, own.dtype)
            for row in range(50):
                if row not in indices:
                    assert own[row].tobytes() == table[row].tobytes()
                    continue
                total = None
                for index, value in zip(indices, wide, strict=True):
                    if index == row:
                        total = value.copy() if total is None else total + value
                states = {name: arrays[0][row].copy() for name, arrays in before.items()}
                arrays = dict(param=table[row].copy(), grad=total, **states)
                getattr(instep.reference, rule)(**arrays, step_count=t, **options)
                actual = dict(param=own[row], grad=total, **{name: optimizer.state[name][0][row] for name in states})
                assert_same_bits(actual, arrays, f"row {row}, step {t}, {options}")


@pytest.mark.parametrize("grad_dtype", ["float16", BFLOAT16, "float32", "float64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_sums_have_the_bits_of_the_twin(grad_dtype, dtype, isa, threads):
    """From 0, SGD with a learning rate of 1 moves by the sum itself."""
    if grad_dtype == "float64" != dtype:
        return
    instep.set_num_threads(threads)
    random = np.random.default_rng(12)
    for shape, count, least, most in [
        ((3, 1), 300, 0, 3),
        ((300, 5), 100, 0, 300),
        ((300, 257), 1, 0, 300),
        ((300, 2, 130), 400, 250, 260),
        ((70_000, 3), 9000, 0, 70_000),
        ((70_000, 3), 500, 69_000, 70_000),
        ((1 << 24, 1), 500, 0, 1 << 24),
        ((3000, 200), 7000, 0, 3000),
        ((4, 0), 5, 0, 4),
        ((4, 3), 0, 0, 4),
    ]:
        indices = random.integers(least, most, count)
        if count == 500:
            indices = random.permutation(np.unique(indices))
        values = numbers(random, len(indices) * int(np.prod(shape[1:])), grad_dtype).reshape(len(indices), *shape[1:])
        given = indices.copy(), values.copy()
        param = np.zeros(shape, dtype)
        instep.SGD([param], lr=1.0).step([instep.Rows(indices, values)])
        with np.errstate(all="ignore"):
            rows, sums = storage.summed(indices, values, dtype)
            sums[np.abs(sums) < np.finfo(dtype).tiny] = 0  # which a step takes them for
            expected = np.zeros_like(sums) - sums
        assert_same_bits({"p": param[rows]}, {"p": expected}, f"{shape}, {count}")
        param[rows] = 0
        assert not param.any()
        assert indices.tobytes() == given[0].tobytes()
        assert values.tobytes() == given[1].tobytes()


def test_the_order_of_a_sum_is_that_of_the_rows():
    """1e8 is 1 + 1e8 in float32, so that three numbers have two sums."""
    for values, expected in [([1, 1e8, -1e8], 0), ([1e8, -1e8, 1], 1), ([1e8, 1, -1e8], 0)]:
        param = np.zeros((9, 1), np.float32)
        rows = instep.Rows(np.array([7, 2, 7, 7]), np.array([values[0], 5, *values[1:]], np.float32)[:, None])
        instep.SGD([param], lr=1.0).step([rows])
        assert param[7, 0] == -expected
        assert param[2, 0] == -5


def test_indices_of_every_kind():
    """Of any type of integer, byte order and layout; a view of the parameter itself is read before that is written."""
    values = np.arange(8.0).reshape(4, 2)
    expected = np.zeros((5, 2))
    instep.SGD([expected], lr=1.0).step([instep.Rows(np.array([4, 1, 4, 0]), values)])
    for dtype in "bBhHiIlLqQ":
        for order in "<>":
            wide = np.array([4, 9, 1, 9, 4, 9, 0, 9], np.dtype(dtype).newbyteorder(order))
            for indices in (wide[::2], wide[::2].copy(), wide[::2][::-1].copy()[::-1]):
                param = np.zeros((5, 2))
                instep.SGD([param], lr=1.0).step([instep.Rows(indices, values)])
                assert (param == expected).all()
    param = np.zeros((5, 2))
    indices = param.reshape(-1).view(np.int64)[1:5]  # which are all 0
    instep.SGD([param], lr=1.0).step([instep.Rows(indices, values)])
    assert param[0].tolist() == [-12, -16]
    assert not param[1:].any()
    wide = np.repeat(values, 2, axis=1)[:, ::2]
    for layout in (np.asfortranarray(values), wide, np.broadcast_to(values[:1], (4, 2))):
        param, other = np.zeros((5, 2)), np.zeros((5, 2))
        instep.SGD([param], lr=1.0).step([instep.Rows(np.array([4, 1, 4, 0]), layout)])
        instep.SGD([other], lr=1.0).step([instep.Rows(np.array([4, 1, 4, 0]), layout.copy())])
        assert (param == other).all()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda rows: pickle.loads(pickle.dumps(rows))])
def test_rows_are_copied_and_pickled(duplicate):
    rows = instep.Rows(np.array([3, 0, 3]), np.arange(6, dtype=np.float32).reshape(3, 2))
    other = duplicate(rows)
    assert type(other) is instep.Rows
    arrays, others = (dict(indices=each.indices, values=each.values) for each in (rows, other))
    assert_same_bits(others, arrays)


def test_bad_rows():
    table = np.ones((5, 2), np.float32)
    optimizer = instep.RMSprop({"t": table})
    values = np.ones((2, 2), np.float32)
    for bad, error, message in [
        (lambda: instep.Rows([0, 1], values), TypeError, "indices must be a numpy.ndarray"),
        (lambda: instep.Rows(np.array([0.0, 1.0]), values), TypeError, "must be integers"),
        (lambda: instep.Rows(np.array([True, False]), values), TypeError, "must be integers"),
        (lambda: instep.Rows(np.array([[0, 1]]), values), ValueError, "one dimension"),
        (lambda: instep.Rows(np.array([0]), values), ValueError, "a row for each of the 1"),
        (lambda: instep.Rows(np.array([0, 5]), values), IndexError, "from 0 to 5, expected them from 0 to 4"),
        (lambda: instep.Rows(np.array([-1, 2]), values), IndexError, "from -1 to 2"),
        (lambda: instep.Rows(np.array([4, 5, 4])[:2], values), IndexError, "from 4 to 5"),
        (
            lambda: instep.Rows(np.array([0, 2**63 + 1], np.uint64), values),
            IndexError,
            "from 0 to 9223372036854775809, expected them from 0 to 4",
        ),
        (lambda: instep.Rows(np.array([0, 2**62]), values), IndexError, "from 0 to 4611686018427387904"),
        (lambda: instep.Rows(np.array([0, None]), values), TypeError, "must be integers, not object"),
        (lambda: instep.Rows(np.array(0), values), ValueError, "one dimension"),
        (lambda: instep.Rows(np.ma.array([0, 1]), values), TypeError, "must be a numpy.ndarray"),
        (lambda: instep.Rows(np.array([0, 1]), values.astype(">f4")), TypeError, "values of dtype >f4"),
        (lambda: instep.Rows(np.array([1, 1]), values.astype(complex)), TypeError, "values of dtype complex128"),
        (lambda: instep.Rows(np.array([1, 1]), np.float32(1)), TypeError, "values must be a numpy.ndarray"),
        (
            lambda: instep.Rows(np.array([0, 1]), values[:, :1]),
            ValueError,
            r"rows of the shape \(1,\), expected \(2,\)",
        ),
        (lambda: instep.Rows(np.array([0, 1]), values.astype(np.float64)), TypeError, "values of dtype float64"),
        (lambda: instep.Rows(np.array([0, 1]), table[:2]), ValueError, "overlaps"),
    ]:
        with pytest.raises(error, match=message):
            optimizer.step({"t": bad()})
        assert (table == 1).all()
        assert optimizer.step_count == 0
    with pytest.raises(IndexError, match=r"grads\[0\] has indices from 0 to 3, and its parameter has no row$"):
        instep.SGD([np.ones((0, 2))]).step([instep.Rows(np.array([3, 0]), np.ones((2, 2)))])
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"a row for each of the {count} indices, not 2"):
            storage.summed(np.zeros(count, int), values, np.float32)
    with pytest.raises(TypeError, match="cannot be bound"):
        optimizer.bind({"t": instep.Rows(np.array([0, 1]), values)})
    with pytest.raises(ValueError, match="two dimensions or more"):
        instep.SGD([np.ones(5, np.float32)]).step([instep.Rows(np.array([0]), np.ones(1, np.float32))])
    with pytest.raises(ValueError, match="8bit"):
        instep.RMSprop([table], state_dtype="8bit").step([instep.Rows(np.array([0]), values[:1])])


def test_rows_mapped_past_the_end_of_their_file(tmp_path):
    """An exception and no SIGBUS."""
    param = np.zeros((5000, 2))
    optimizer = instep.SGD([param], lr=1.0)
    mapped = np.memmap(tmp_path / "values", np.float64, "w+", shape=(4000, 2))
    indices = np.memmap(tmp_path / "indices", np.int64, "w+", shape=4000)
    plain = np.zeros(4000, np.int64), np.zeros((4000, 2))
    for name, rows in [("values", (plain[0], mapped)), ("indices", (indices, plain[1]))]:
        rows = instep.Rows(*rows)
        optimizer.step([rows])
        with open(tmp_path / name, "r+b") as file:
            file.truncate(100)
        with pytest.raises(ValueError, match=f"maps past the end of .*{name}"):
            optimizer.step([rows])
    assert optimizer.step_count == 2


# ---- exact rows ----


def still(rule):
    """Options with which a gradient of 0 moves nothing, one for each loop that has some."""
    for options in one_of_each_loop(rule):
        quiet = options | dict.fromkeys(movers(rule), 0.0)
        if fits(rule, quiet | {"exact_rows": True}):
            yield quiet


@cache
def movers(rule):
    """The options of the formula by which a gradient of 0 moves a parameter, as their refusal names them."""
    found = {}
    for options in one_of_each_loop(rule):
        asked = options | {"exact_rows": True}
        while named := re.match(r"(\w+)=.* does not go with exact_rows", refusal(rule, asked) or ""):
            if named[1] == "exact_rows":  # of a rule that has not been proven to stand still
                break
            asked[named[1]] = found[named[1]] = 0.0
    return tuple(found)


def dense(param, rows):
    grad = np.zeros(param.shape, rows.values.dtype)
    np.add.at(grad, rows.indices, rows.values)
    return grad


@pytest.mark.parametrize("threads", [1, 3])
def test_exact_rows_have_the_bits_of_a_dense_gradient(rule, dtype, isa, threads):
    """A row that is touched is where zeros in the steps that it missed would have brought it; in the end, all are."""
    instep.set_num_threads(threads)
    random = np.random.default_rng(13)
    for options in still(rule):
        for maximize in (False, True):
            exact = [random.standard_normal((200, 3, 100)).astype(dtype), random.standard_normal(5).astype(dtype)]
            whole = [p.copy() for p in exact]
            given = options | {"maximize": maximize, "grad_scale": 0.5}
            a = CLASSES[rule](exact, **given, exact_rows=True)
            b = CLASSES[rule](whole, **given)
            for t in range(12):
                indices = random.integers(0, 100 if t % 4 else 200, 1 + t)
                small = random.standard_normal(5).astype(dtype)
                rows = instep.Rows(indices, random.standard_normal((1 + t, 3, 100)).astype(dtype))
                a.step([rows, small])
                b.step([dense(exact[0], rows), small])
                touched = np.unique(indices)
                for name, array in {"param": exact, **a.state}.items():
                    other = {"param": whole, **b.state}.get(name)
                    if name != "row_steps":
                        assert_same_bits({name: array[0][touched]}, {name: other[0][touched]}, f"{t}, {given}")
                assert (a.state["row_steps"][0][touched] == t + 1).all()
            assert a.state["row_steps"][0].min() < 12
            for optimizer in (a, b):
                optimizer.step([np.zeros((200, 3, 100), dtype), None])
            assert (a.state["row_steps"][0] == 13).all()
            for name in b.state:
                assert_same_bits({name: a.state[name][0]}, {name: b.state[name][0]}, f"{name}, {given}")
            assert_same_bits({"param": exact[0]}, {"param": whole[0]}, f"{given}")


def test_exact_rows_have_the_bits_of_the_twin(rule, dtype):
    random = np.random.default_rng(14)
    for options in still(rule):
        param = random.standard_normal((4, 300)).astype(dtype)
        optimizer = CLASSES[rule]([param], **options, exact_rows=True)
        for t in range(1, 9):
            row = t % 3
            before = {name: arrays[0][row].copy() for name, arrays in optimizer.state.items() if name != "row_steps"}
            own, value = param[row].copy(), random.standard_normal((1, 300)).astype(dtype)
            around.missed(rule, before, t - 1 - int(optimizer.state["row_steps"][0][row]), **options)
            around.step(rule, own, value[0], before, step_count=t, **options)
            optimizer.step([instep.Rows(np.array([row]), value)])
            actual = {"param": param[row]} | {name: optimizer.state[name][0][row] for name in before}
            assert_same_bits(actual, {"param": own} | before, f"{t}, {options}")


@pytest.mark.parametrize("missed", [1, 63, 64, 65, 700, 5000, 2**40])
def test_a_row_that_missed_many_steps(missed):
    """Where its average changes no more, the rest of them is not taken."""
    for centered in (False, True):
        param, other = np.ones((2, 70), np.float32), np.ones((1, 70), np.float32)
        optimizer = instep.RMSprop([param], lr=0.1, rho=0.875, centered=centered, exact_rows=True)
        alone = instep.RMSprop([other], lr=0.1, rho=0.875, centered=centered)
        value = np.linspace(-1e-3, 1e3, 70, dtype=np.float32)[None]
        optimizer.step([instep.Rows(np.array([1]), value)])
        alone.step([value])
        kept = optimizer.state_dict()
        kept["step_count"] = kept["step_counts"]["0"] = missed + 1
        optimizer.load_state_dict(kept)
        for _ in range(min(missed, 5000)):
            alone.step([np.zeros_like(value)])
        optimizer.step([instep.Rows(np.array([1]), np.zeros_like(value))])  # which hides nothing of what is left
        alone.step([np.zeros_like(value)])
        assert param[1].tobytes() == other.tobytes()
        for name in alone.state:
            assert optimizer.state[name][0][1].tobytes() == alone.state[name][0].tobytes()
        assert optimizer.state["row_steps"][0].tolist() == [0, missed + 2]


def test_what_moves_without_a_gradient_is_refused(rule):
    """With the option that does it, when it is made and when it is assigned; nothing has changed then."""
    options = next(still(rule), None)
    if options is None:
        with pytest.raises(ValueError, match="a row without a gradient would move"):
            CLASSES[rule]([np.ones((3, 2))], exact_rows=True)
        return
    assert "weight_decay" in movers(rule)
    for name, value in dict.fromkeys([*movers(rule), "average_decay"], 0.5).items():
        message = rf"{name}=0\.5 does not go with exact_rows: a row without a gradient would move"
        param = np.ones((3, 2))
        with pytest.raises(ValueError, match=message):
            CLASSES[rule]([param], **(options | {name: value}), exact_rows=True)
        optimizer = CLASSES[rule]([param], **options, exact_rows=True)
        before = str(optimizer.state_dict())
        with pytest.raises(ValueError, match=message):
            setattr(optimizer, name, value)
        with pytest.raises(ValueError, match=message):
            CLASSES[rule]([param], **options, exact_rows=True, groups={"0": {name: value}})
        assert str(optimizer.state_dict()) == before
        optimizer.exact_rows = False
        assert "row_steps" not in optimizer.state
        setattr(optimizer, name, value)
        with pytest.raises(ValueError, match=message):
            optimizer.exact_rows = True
        assert optimizer.exact_rows is False
    with pytest.raises(ValueError, match="not with state_dtype='bfloat16'"):
        CLASSES[rule]([np.ones((3, 2), np.float32)], **options, exact_rows=True, state_dtype="bfloat16")
    with pytest.raises(ValueError, match="exact_rows is of the step"):
        CLASSES[rule]([np.ones((3, 2))], **options, groups={"0": {"exact_rows": True}})


def test_exact_rows_of_other_arrays_and_steps():
    """No rows where there are none to name; steps that are not taken are not missed."""
    params = {"w": np.ones((4, 2)), "f": np.ones((4, 3), order="F"), "b": np.ones(4), "e": np.ones((3, 0))}
    optimizer = instep.RMSprop(params, lr=0.5, rho=0.5, exact_rows=True, skip_nonfinite=True)
    shapes = {place: array.shape for place, array in optimizer.state["row_steps"].items()}
    assert shapes == {"w": (4,), "f": (0,), "b": (0,), "e": (3,)}
    whole = {place: np.ones_like(p) for place, p in params.items()}
    optimizer.step(whole)
    assert optimizer.state["row_steps"]["w"].tolist() == [1, 1, 1, 1]
    row = instep.Rows(np.array([2]), np.ones((1, 2)))
    optimizer.step(whole | {"w": None})
    optimizer.step(whole | {"w": instep.Rows(np.array([2]), np.full((1, 2), np.inf))})
    optimizer.step_one("w", row)
    assert optimizer.state["row_steps"]["w"].tolist() == [1, 1, 2, 1]
    assert optimizer.state["square_avg"]["w"][:, 0].tolist() == [0.5, 0.5, 0.75, 0.5]
    optimizer.accumulate({"w": row, "f": None, "b": None, "e": None})
    optimizer.step()
    assert optimizer.state["row_steps"]["w"].tolist() == [1, 1, 3, 1]
    optimizer.exact_rows = False
    optimizer.step({"w": row, "f": None, "b": None, "e": None})
    optimizer.exact_rows = True
    assert optimizer.state["row_steps"]["w"].tolist() == [4, 4, 4, 4]
    optimizer.bind(whole)
    optimizer.step()
    assert optimizer.state["row_steps"]["w"].tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_catch_up_before_they_are_exact_no_more(rule, dtype, threads):
    """Their averages are those of zeros for all rows that a gradient left out, at once and for what follows."""
    instep.set_num_threads(threads)
    random = np.random.default_rng(16)
    for options in still(rule):
        exact = {"a": random.standard_normal((300, 2, 40)).astype(dtype), "b": random.standard_normal(5).astype(dtype)}
        exact["c"] = random.standard_normal((7, 3)).astype(dtype)
        whole = {place: param.copy() for place, param in exact.items()}
        groups = {"c": {"lr": options["lr"] / 2, "maximize": True}}
        a = CLASSES[rule](exact, **options, groups=groups, exact_rows=True)
        b = CLASSES[rule](whole, **options, groups=groups)
        for turns in range(2):
            for t in range(5):
                rows = {
                    place: instep.Rows(
                        random.integers(0, len(exact[place]) // 2, 2),
                        random.standard_normal((2, *exact[place].shape[1:])).astype(dtype),
                    )
                    for place in ("a", "c")
                }
                small = random.standard_normal(5).astype(dtype) if t < 3 else None
                a.step(rows | {"b": small})
                b.step({place: dense(exact[place], given) for place, given in rows.items()} | {"b": small})
            a.exact_rows = False
            assert a.state.keys() == b.state.keys()
            for name, arrays in ({"param": exact} | a.state).items():
                assert_same_bits(arrays, ({"param": whole} | b.state)[name], f"{name}, {options}")
            a.exact_rows = True
            assert (a.state["row_steps"]["a"] == 5 * (turns + 1)).all()


def test_rows_that_cannot_catch_up_stay_exact():
    """Where a state is frozen; and nothing has been written."""
    optimizer = instep.RMSprop([np.ones((3, 2)), np.ones((3, 2))], exact_rows=True)
    for row in (0, 1):
        optimizer.step([instep.Rows(np.array([row]), np.ones((1, 2)))] * 2)
    before = str(optimizer.state_dict())
    optimizer.state["square_avg"][1].flags.writeable = False
    with pytest.raises(ValueError, match=r"state\['square_avg'\]\[1\] has become read-only"):
        optimizer.exact_rows = False
    assert str(optimizer.state_dict()) == before
    optimizer.state["square_avg"][1].flags.writeable = True
    optimizer.exact_rows = False


def test_checkpoints_of_exact_rows(tmp_path):
    random = np.random.default_rng(15)
    param = random.standard_normal((50, 3))
    optimizer = instep.Adadelta({"w": param, "b": np.ones(3)}, exact_rows=True)

    def run(optimizer):
        draw = np.random.default_rng(1)
        for _ in range(9):
            rows = instep.Rows(draw.integers(0, 50, 4), draw.standard_normal((4, 3)))
            optimizer.step({"w": rows, "b": draw.standard_normal(3)})

    run(optimizer)
    optimizer.save(tmp_path / "a")
    again = instep.load(tmp_path / "a", {place: p.copy() for place, p in optimizer.params.items()})
    assert again.exact_rows is True
    run(optimizer)
    run(again)
    assert again.params["w"].tobytes() == param.tobytes()
    assert str(again.state_dict()) == str(optimizer.state_dict())
    for bad in (-1, 19, 2**63 - 1):
        damaged = optimizer.state_dict()
        damaged["state"]["row_steps"]["w"][7] = bad
        with pytest.raises(ValueError, match=r"row_steps.*not of a step that was taken"):
            again.load_state_dict(damaged)
    damaged = optimizer.state_dict()
    damaged["state"]["row_steps"]["w"] = damaged["state"]["row_steps"]["w"].astype(np.float64)
    with pytest.raises(ValueError, match="dtype float64"):
        again.load_state_dict(damaged)
    assert str(again.state_dict()) == str(optimizer.state_dict())


def test_a_parameter_that_was_given_other_rows_in_place():
    for before, after in [((100, 60), (6000, 1)), ((6000,), (100, 60))]:
        param = np.zeros(before)
        optimizer = instep.RMSprop(param, exact_rows=True)
        param.shape = after
        rows = instep.Rows(np.arange(after[0] // 2, after[0]), np.ones((after[0] // 2, after[1])))
        for call in (optimizer.step, optimizer.accumulate):
            with pytest.raises(ValueError, match="not what it was when it was checked: its shape is"):
                call(rows)
        assert not param.any()
        assert optimizer.step_count == 0


def test_indices_that_were_changed_in_place():
    param = np.zeros((4, 2))
    optimizer = instep.SGD(param, lr=1.0)
    for name, value in [("dtype", np.float64), ("shape", (2, 1))]:
        indices = np.array([1, 2])
        rows = instep.Rows(indices, np.ones((2, 2)))
        setattr(indices, name, value)
        with pytest.raises(TypeError, match="expected integers of one dimension"):
            optimizer.step(rows)
        assert not param.any()
