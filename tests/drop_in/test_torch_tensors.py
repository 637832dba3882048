"""What tensors are stepped here, what is left to torch, and that both are right: beside torch's own class."""

import collections
import gc
import weakref

import pytest

from drop_ins import PAIRS, assert_close, assert_equal, fill, params, tensors_of, torch

pytestmark = pytest.mark.usefixtures("reader")

KINDS = {}


def kind(reason):
    """A way to make a parameter and its gradient, and why torch steps it; None where instep does."""

    def register(function):
        KINDS[function.__name__] = (function, reason)
        return function

    return register


def dense(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def of(tensor, grad=None):
    param = torch.nn.Parameter(tensor)
    param.grad = dense(*tensor.shape, dtype=tensor.dtype, seed=1) if grad is None else grad
    return param


@kind(None)
def plain():
    return of(dense(3, 4))


@kind(None)
def scalar():
    return of(dense())


@kind(None)
def empty():
    return of(dense(0, 3))


@kind(None)
def channels_last():
    def tensor(seed):
        return dense(2, 3, 4, 5, seed=seed).to(memory_format=torch.channels_last)

    return of(tensor(0), tensor(1))


@kind(None)
def transposed():
    return of(dense(3, 4).T, dense(3, 4, seed=1).T)


@kind(None)
def view_of_a_larger_one():
    return of(dense(100)[7:17], dense(100, seed=1)[11:21])


@kind(None)
def strides_of_length_one():
    """Which say nothing."""
    return of(dense(5, 1), torch.as_strided(dense(9, seed=1), (5, 1), (1, 7)))


@kind(None)
def unused():
    """It has a gradient though it asks for none."""
    return of(dense(3, 4)).requires_grad_(False)


@kind(None)
def gradient_with_a_graph():
    return of(dense(3, 4), dense(3, 4, seed=1).requires_grad_() * 2)


@kind(None)
def copy_on_write():
    if not hasattr(torch, "_lazy_clone"):
        return plain()
    return of(torch._lazy_clone(dense(3, 4)), torch._lazy_clone(dense(3, 4, seed=1)))


@kind("strides")
def gradient_of_other_strides():
    return of(dense(3, 4), dense(4, 3, seed=1).T)


@kind("strides")
def broadcast_gradient():
    return of(dense(3, 4), dense(1, 4, seed=1).expand(3, 4))


@kind("dense")
def strided():
    return of(dense(6, 8)[::2, ::2], dense(6, 8, seed=1)[::2, ::2])


@kind("complex")
def complex_numbers():
    return of(torch.complex(dense(3), dense(3, seed=2)), torch.complex(dense(3, seed=3), dense(3, seed=4)))


@kind("bfloat16")
def bfloat16():
    return of(dense(3, 4, dtype=torch.float32).bfloat16(), dense(3, 4, dtype=torch.float32, seed=1).bfloat16())


@kind("float16")
def float16():
    return of(dense(3, 4, dtype=torch.float32).half(), dense(3, 4, dtype=torch.float32, seed=1).half())


@kind("negates")
def negated_gradient():
    return of(dense(3, 4), torch._neg_view(dense(3, 4, seed=1)))


@kind("negates")
def negated_parameter():
    return of(torch._neg_view(dense(3, 4)))


@kind("negates")
def negated_number():
    """As the imaginary part of what is conjugated."""
    return of(dense(), torch.complex(dense(), dense(seed=1)).conj().imag)


@kind("memory")
def zero_without_memory():
    return of(dense(3, 4), torch._efficientzerotensor((3, 4), dtype=torch.float64))


class Subclass(torch.Tensor):
    pass


@kind("Subclass")
def parameter_of_a_subclass():
    return of(dense(3, 4).as_subclass(Subclass))


@kind("Subclass")
def gradient_of_a_subclass():
    return of(dense(3, 4), dense(3, 4, seed=1).as_subclass(Subclass))


def run(cls, make, steps=4, **options):
    parameters = [of(dense(5)), make(), of(dense(2, 3))]
    optimizer = cls(parameters, **options)
    for _ in range(steps):
        optimizer.step()
    return optimizer, tensors_of(optimizer, [p.as_subclass(torch.Tensor) for p in parameters])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["RMSprop", "SGD", "Adam"])
def test_kind(name, kind):
    make, reason = KINDS[kind]
    (ours, mine), (_, others) = (run(cls, make, **({"momentum": 0.9} if name == "SGD" else {})) for cls in PAIRS[name])
    if reason is None:
        assert ours.fallbacks() == []
    else:
        (fallback,) = ours.fallbacks()
        assert (fallback.group, fallback.param) == (0, 1)
        assert reason in fallback.reason
        assert_equal([mine[1]], [others[1]])
    assert_close(mine, others)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("name", PAIRS)
def test_sparse_gradients(name):
    """As torch: a step of its own, or its own exception, and then nothing has been written."""

    def run(cls):
        weight, other = torch.nn.Parameter(dense(5, 3)), of(dense(4))
        grad = torch.sparse_coo_tensor([[1, 3, 1]], dense(3, 3, seed=1), (5, 3), check_invariants=True)
        optimizer = cls([other, weight])
        try:
            for _ in range(3):
                weight.grad = grad.clone()
                optimizer.step()
        except RuntimeError as error:
            return optimizer, [other.detach(), weight.detach()], str(error)
        return optimizer, tensors_of(optimizer, [other, weight]), None

    (ours, mine, error), (_, others, expected) = (run(cls) for cls in PAIRS[name])
    assert error == expected
    if error is None:
        assert_close(mine, others)
        (fallback,) = ours.fallbacks()
        assert "torch.sparse_coo" in fallback.reason
    else:
        assert_equal(mine, [dense(4), dense(5, 3)])


@pytest.mark.parametrize("name", PAIRS)
def test_version_counters(name):
    """A backward pass over what a step has written since is an error, not a wrong gradient."""
    cls, _ = PAIRS[name]
    weight = of(dense(3))
    optimizer = cls([weight])
    optimizer.step()
    loss = (weight * weight).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    states = [value for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor) and value.ndim]
    for state in states:
        factor = torch.ones(3, dtype=torch.float64, requires_grad=True)
        loss = (factor * state).sum()
        weight.grad = dense(3)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def overlapping():
    """Parameters and gradients of which some share memory."""
    whole = dense(12)
    yield "twice", lambda: [of(whole.clone())] * 2
    for name, first, second in (
        ("overlapping", slice(0, 8), slice(4, 12)),
        ("inside", slice(0, 12), slice(3, 5)),
        ("strided over dense", slice(0, 12, 2), slice(0, 12)),
        ("dense over strided", slice(0, 12), slice(1, 12, 2)),
    ):

        def make(first=first, second=second):
            base = whole.clone()
            return [of(base[first]), of(base[second])]

        yield name, make

    def gradient_is_a_parameter():
        first = of(dense(12))
        return [first, of(dense(12, seed=3), first.data)]

    def gradient_is_itself():
        first = of(dense(12))
        first.grad = first.data
        return [first]

    yield "gradient is a parameter", gradient_is_a_parameter
    yield "gradient is itself", gradient_is_itself


OVERLAPPING = list(overlapping())


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate parameters")
@pytest.mark.parametrize("name", ["RMSprop", "SGD", "Adam", "Adagrad"])
@pytest.mark.parametrize(("what", "make"), OVERLAPPING, ids=[what for what, _ in OVERLAPPING])
@pytest.mark.parametrize("apart", [0, 1, 2])
def test_shared_memory(name, what, make, apart):
    """torch steps what shares memory in its order, and instep the rest."""

    def run(cls):
        shared = make()
        others = [of(dense(3, seed=k)) for k in range(2)]
        parameters = others[:apart] + shared + others[apart:]
        optimizer = cls(parameters, lr=0.1)
        for _ in range(3):
            optimizer.step()
        return optimizer, tensors_of(optimizer, parameters), len(shared)

    (ours, mine, count), (_, theirs, _) = (run(cls) for cls in PAIRS[name])
    assert_close(mine, theirs)
    assert {fallback.param for fallback in ours.fallbacks()} == {*range(apart, apart + count)}


class Labelled(torch.nn.Parameter):
    """A parameter of a class of its own."""


@pytest.mark.parametrize("what", ["complex", "bfloat16", "a state", "a subclass"])
@pytest.mark.parametrize("first", [False, True])
def test_shared_memory_with_what_is_not_read_here(what, first):
    """Of another dtype or class than instep steps, and whatever of it is shared."""

    def run(cls):
        whole = dense(12)
        other = {
            "complex": lambda: of(torch.view_as_complex(whole.view(6, 2))),
            "bfloat16": lambda: of(whole.view(torch.bfloat16)[:8]),
            "a state": lambda: of(dense(12), torch.zeros(24, dtype=torch.float64)[::2]),
            "a subclass": lambda: Labelled(whole),
        }[what]()
        other.grad = torch.full_like(other, 0.25) if other.grad is None or what != "a state" else other.grad
        shared = of(whole[:4])
        parameters = [other, shared] if first else [shared, other]
        optimizer = cls([*parameters, of(dense(3))], lr=0.1, momentum=0.5, weight_decay=0.5)
        if what == "a state":
            optimizer.state[other]["momentum_buffer"] = whole
        for _ in range(3):
            optimizer.step()
        return optimizer, [shared.detach().clone(), other.detach().clone()]

    (ours, mine), (_, theirs) = (run(cls) for cls in PAIRS["SGD"])
    assert_close(mine, theirs)
    assert {fallback.param for fallback in ours.fallbacks()} == {0, 1}


@pytest.mark.parametrize("what", ["param", "momentum_buffer", "grad"])
def test_data_that_is_negated_where_it_is(what):
    """The tensor, its memory and its type are the same before and after."""

    def run(cls):
        param = of(dense(3))
        optimizer = cls([param], lr=0.1, momentum=0.5)
        for k in range(5):
            if k == 2:
                tensor = {"param": param, "grad": param.grad}.get(what, optimizer.state[param].get(what))
                tensor.data = torch._neg_view(tensor.data)
            optimizer.step()
        return optimizer, tensors_of(optimizer, [param])

    (ours, mine), (_, theirs) = (run(cls) for cls in PAIRS["SGD"])
    assert_close(mine, theirs)
    assert "negates" in ours.fallbacks()[0].reason


@pytest.mark.parametrize("centered", [(), (0,), (1,)])
def test_groups_that_share_memory(centered):
    """A parameter is torch's where it shares memory with one of a group that is torch's, before it or after it."""

    def run(cls):
        base = dense(12)
        parameters = [of(base[0:8]), of(base[4:12]), of(dense(3))]
        optimizer = cls([{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:]}])
        for group in centered:
            optimizer.param_groups[group]["centered"] = True
        for _ in range(3):
            optimizer.step()
        return optimizer, tensors_of(optimizer, parameters)

    (ours, mine), (_, theirs) = (run(cls) for cls in PAIRS["RMSprop"])
    assert_close(mine, theirs)
    found = {(fallback.group, fallback.param) for fallback in ours.fallbacks()}
    assert found == {(group, None if group in centered else 0) for group in range(2)}


def test_gradients_may_share_memory_with_each_other():
    grad = dense(8)
    parameters = [of(dense(8), grad), of(dense(8, seed=3), grad), of(dense(4), grad[2:6])]
    optimizer = PAIRS["RMSprop"][0](parameters)
    for _ in range(2):
        optimizer.step()
        assert optimizer.fallbacks() == []


@pytest.mark.parametrize("name", PAIRS)
def test_memory_that_moves(name):
    """Every pointer is read anew: parameters, gradients and states may be elsewhere in the next step."""

    def run(cls):
        parameters = params()
        optimizer = cls(parameters)
        kept = []
        for k in range(8):
            fill(parameters, seed=k)
            optimizer.step()
            for p in parameters:
                kept.append(p.data)  # so that no other tensor comes to lie there
                if k % 2:
                    p.data = p.data.clone()
                for key, value in optimizer.state[p].items():
                    if isinstance(value, torch.Tensor) and k % 3 == 0:
                        kept.append(value)
                        optimizer.state[p][key] = value.clone()
            optimizer.zero_grad(set_to_none=k % 2 == 0)
            if k == 5:
                optimizer.load_state_dict(optimizer.state_dict())
        return optimizer, tensors_of(optimizer, parameters)

    (ours, mine), (_, theirs) = (run(cls) for cls in PAIRS[name])
    assert_close(mine, theirs)
    assert ours.fallbacks() == []


@pytest.mark.parametrize("name", PAIRS)
def test_what_changes_in_mid_training(name):
    """Layouts, and which parameters have a gradient: torch has the step where they do not fit, and only there."""

    def run(cls):
        parameters = params()
        optimizer = cls(parameters)
        found = []
        for k in range(9):
            fill(parameters, seed=k)
            if k in (1, 2):
                for p in parameters[k:]:
                    p.grad = None
            if k == 3:
                parameters[4].data = parameters[4].data.to(memory_format=torch.channels_last)
                fill(parameters, seed=k)
            if k == 5:
                parameters[0].grad = parameters[0].grad.T.contiguous().T
            optimizer.step()
            found.append({fallback.param for fallback in optimizer.fallbacks()} if hasattr(cls, "fallbacks") else set())
        return found, tensors_of(optimizer, parameters)

    (found, mine), (_, theirs) = (run(cls) for cls in PAIRS[name])
    assert_close(mine, theirs)
    relaid = set() if name == "SGD" else {4}  # its state is as it was
    assert found == [set(), set(), set(), relaid, relaid, {0} | relaid, relaid, relaid, relaid]


def test_double_precision_in_mid_training():
    """As `model.double()` makes it: torch has a state in single precision then, and takes its own step."""

    def run(cls):
        model = torch.nn.Linear(3, 2)
        with torch.no_grad():
            model.weight.fill_(0.5)
        optimizer = cls([model.weight])
        for k in range(4):
            if k == 2:
                model.double()
            model.weight.grad = dense(2, 3, seed=k).to(model.weight.dtype)
            optimizer.step()
        return optimizer, tensors_of(optimizer, [model.weight])

    (ours, mine), (_, theirs) = (run(cls) for cls in PAIRS["SGD"])
    assert ours.fallbacks() == []
    assert_close(mine, theirs, rtol=1e-6)
    errors = []
    for cls in PAIRS["Adam"]:
        with pytest.raises(RuntimeError) as caught:
            run(cls)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_precisions_side_by_side():
    def run(cls):
        parameters = [of(dense(5)), of(dense(5, dtype=torch.float32)), of(dense(4, 2))]
        optimizer = cls(parameters)
        for _ in range(3):
            optimizer.step()
        return optimizer, tensors_of(optimizer, parameters)

    (ours, mine), (_, theirs) = (run(cls) for cls in PAIRS["Adam"])
    assert ours.fallbacks() == []
    for a, b in zip(mine, theirs, strict=True):
        assert_close([a], [b], rtol=1e-12 if a.dtype == torch.float64 else 1e-6)


def test_options_good_for_one_precision():
    """With an eps that single precision does not have, its parameters are torch's, and the others instep's."""
    parameters = [of(dense(5)), of(dense(5, dtype=torch.float32))]
    optimizer = PAIRS["RMSprop"][0](parameters, eps=1e-45)
    optimizer.step()
    (fallback,) = optimizer.fallbacks()
    assert fallback.param == 1
    assert fallback.reason.startswith("eps=1e-45")


def test_inference_tensors():
    """torch does not let them be written; nor is it done behind its back."""
    for cls in PAIRS["SGD"]:
        with torch.inference_mode():
            param = torch.nn.Parameter(dense(3), requires_grad=False)
        param.grad = dense(3)
        with pytest.raises(RuntimeError, match="inference tensor"):
            cls([param]).step()


@pytest.mark.parametrize("name", PAIRS)
def test_states_made_under_inference_mode(name):
    """torch writes them there only: the next step outside raises its exception, and leaves what torch's leaves."""
    results = []
    for cls in PAIRS[name]:
        parameters = params()
        fill(parameters)
        optimizer = cls(parameters, **({"momentum": 0.9} if name == "SGD" else {}))
        with torch.inference_mode():
            optimizer.step()
            optimizer.step()
        kept = [value for state in optimizer.state.values() for value in state.values()]
        message = None
        if any(isinstance(value, torch.Tensor) and value.is_inference() for value in kept):
            with pytest.raises(RuntimeError, match="inference tensor") as raised:
                optimizer.step()
            message = str(raised.value)
            if cls is PAIRS[name][0]:
                (reason,) = {fallback.reason for fallback in optimizer.fallbacks()}
                assert reason == "the parameter or its state is an inference tensor"
        else:
            optimizer.step()
        results.append((tensors_of(optimizer, parameters), message))
    assert_close(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def with_a_state(cls):
    """After its first step."""
    param = of(dense(5))
    optimizer = cls([param], **({"momentum": 0.9} if cls.__name__ in {"SGD", "RMSpropTF"} else {}))
    optimizer.step()
    return optimizer, param


def states_of(cls):
    optimizer, param = with_a_state(cls)
    return [key for key, value in optimizer.state[param].items() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize(("name", "state"), [(name, key) for name in PAIRS for key in states_of(PAIRS[name][1])])
def test_one_state_made_under_inference_mode(name, state):
    """Whichever it is, in mid-training."""
    results = []
    for cls in PAIRS[name]:
        optimizer, param = with_a_state(cls)
        with torch.inference_mode():
            optimizer.state[param][state] = optimizer.state[param][state].clone()
        with pytest.raises(RuntimeError, match="inference tensor") as raised:
            optimizer.step()
        results.append((tensors_of(optimizer, [param]), str(raised.value)))
    assert_close(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("what", ["param", "momentum_buffer"])
def test_what_was_an_inference_tensor(what):
    """Of one whose data were replaced torch still cannot count the writes: an exception, where its C++ has one too."""
    messages = []
    for cls in PAIRS["SGD"]:
        param = of(dense(3))
        optimizer = cls([param], lr=0.1, momentum=0.9)
        if what == "param":
            with torch.inference_mode():
                param = torch.nn.Embedding(4, 3)
            param = param.double().weight
            optimizer = cls([param], lr=0.1, momentum=0.9)
            param.grad = dense(4, 3)
        else:
            optimizer.step()
            with torch.inference_mode():
                optimizer.state[param][what] = optimizer.state[param][what].clone()
            optimizer.state[param][what].data = dense(3)
        with pytest.raises(RuntimeError, match="inference tensor") as raised:
            optimizer.step()
        messages.append(str(raised.value).splitlines()[0])
    assert messages[0] == messages[1]


def test_a_state_that_is_no_dict():
    """torch only asks it for items."""

    def run(cls):
        param = of(dense(3))
        optimizer = cls([param], lr=0.1, momentum=0.9)
        optimizer.state = collections.UserDict({param: {}})
        optimizer.step()
        return optimizer, param

    (ours, mine), (_, theirs) = (run(cls) for cls in PAIRS["SGD"])
    assert_close([mine], [theirs])
    assert [fallback.reason for fallback in ours.fallbacks()] == ["its state is a UserDict"]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch's own rules for tangents
@pytest.mark.parametrize("name", PAIRS)
def test_tangents(name):
    """Forward-mode differentiation goes through a step: torch takes it."""
    forward_ad = torch.autograd.forward_ad
    results = []
    for cls in PAIRS[name]:
        param = torch.nn.Parameter(dense(5))
        optimizer = cls([param])
        with forward_ad.dual_level():
            param.grad = forward_ad.make_dual(dense(5, seed=1), dense(5, seed=2))
            optimizer.step()
            value, tangent = forward_ad.unpack_dual(param)
            results.append([value.detach().clone(), tangent.clone()])
    assert_equal(*results)


@pytest.mark.parametrize("name", PAIRS)
def test_nothing_is_leaked(name):
    """Neither gradients nor states nor parameters are kept alive."""
    param = torch.nn.Parameter(dense(1000))
    optimizer = PAIRS[name][0]([param])
    for _ in range(3):
        param.grad = dense(1000)
        optimizer.step()
    states = [value for value in optimizer.state[param].values() if isinstance(value, torch.Tensor)]
    watched = [weakref.ref(param.grad), *map(weakref.ref, states)]
    del states
    param.grad = None
    optimizer.state.clear()
    gc.collect()
    assert [watch() for watch in watched] == [None] * len(watched)
    watched = weakref.ref(param)
    del optimizer, param
    gc.collect()
    assert watched() is None


def test_no_gradient_at_all():
    """A step of nothing, which torch allows."""
    for cls in PAIRS["RMSprop"]:
        optimizer = cls(params())
        assert optimizer.step() is None
        assert not optimizer.state


def test_a_step_that_is_no_whole_number():
    """A count that nothing here leaves is left to torch, whatever it does."""

    def run(cls, count):
        param = of(dense(3))
        optimizer = cls([param])
        optimizer.step()
        optimizer.state[param]["step"] = count
        optimizer.step()
        return optimizer, tensors_of(optimizer, [param])

    for count in (2.5, float("inf"), 4.0):
        (ours, mine), (_, theirs) = (run(cls, torch.tensor(count)) for cls in PAIRS["Adam"])
        assert_close([t.nan_to_num() for t in mine], [t.nan_to_num() for t in theirs])
        assert bool(ours.fallbacks()) == (count != 4)
    for count in (torch.tensor(-3.0), torch.tensor([1.0, 2.0]), 7):
        for cls in PAIRS["Adam"]:
            with pytest.raises((RuntimeError, TypeError, AttributeError, ValueError)):
                run(cls, count)


def test_the_count_that_float32_does_not_hold():
    """At 2**24 torch's count stands still."""

    def run(cls):
        param = of(dense(3))
        optimizer = cls([param], lr=1e-2)
        optimizer.step()
        optimizer.state[param]["step"].fill_(2.0**24 - 2)
        for _ in range(4):
            optimizer.step()
        return tensors_of(optimizer, [param])

    assert_close(*(run(cls) for cls in PAIRS["Adam"]))


def test_one_count_for_several():
    """torch counts it up with each of them."""

    def run(cls):
        parameters = [of(dense(3, seed=k)) for k in range(3)]
        optimizer = cls(parameters, lr=1e-2)
        optimizer.step()
        for param in parameters:
            optimizer.state[param]["step"] = optimizer.state[parameters[0]]["step"]
        for _ in range(3):
            optimizer.step()
        return tensors_of(optimizer, parameters)

    assert_close(*(run(cls) for cls in PAIRS["Adam"]))
