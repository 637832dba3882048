"""All that torch's optimizers do beside a step: hooks, closures, schedulers, states, copies; beside torch's own."""

import copy
import inspect
import io
import os
import pickle
import subprocess
import sys
import textwrap
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest

import instep
from drop_ins import ELSEWHERE, OPTIM_DB, PAIRS, assert_close, assert_equal, fill, params, tensors_of, torch

OF_TORCH = [name for name in PAIRS if name not in ELSEWHERE]


def both(name, program):
    """What a program makes of each class."""
    return [program(cls) for cls in PAIRS[name]]


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_one_of_torchs(name):
    cls, theirs = PAIRS[name]
    assert issubclass(cls, theirs)
    assert inspect.signature(cls) == inspect.signature(theirs)
    mine, others = both(name, lambda cls: cls(params()))
    assert repr(mine) == repr(others)
    assert mine.defaults == others.defaults
    assert mine.state_dict()["param_groups"] == others.state_dict()["param_groups"]
    assert type(cls.step) is type(lambda: None)  # a scheduler asks for optimizer.step.__func__
    assert mine.step.__func__ is cls.step
    assert inspect.signature(cls.step) == inspect.signature(theirs.step)
    assert inspect.signature(mine.step) == inspect.signature(others.step)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("is_watched", [False, True], ids=["", "hooks"])
@pytest.mark.parametrize(
    ("args", "kwargs"), [((1, 2, 3), {}), ((), {"clos": 1}), ((None,), {"closure": None}), ((3,), {})]
)
def test_errors_of_wrong_arguments_of_a_step(name, is_watched, args, kwargs):
    def program(cls):
        optimizer = cls(params())
        if is_watched:
            optimizer.register_step_pre_hook(lambda *given: None)
        with pytest.raises(TypeError) as caught:
            optimizer.step(*args, **kwargs)
        return str(caught.value)

    mine, theirs = both(name, program)
    assert mine == theirs


@pytest.mark.parametrize("name", OF_TORCH)
def test_errors_that_torch_lists(name):
    """The same exceptions and warnings for the same arguments."""
    (info,) = [info for info in OPTIM_DB if info.optim_cls is PAIRS[name][1]]
    for given in info.optim_error_inputs_func("cpu", torch.float32):
        outcomes = []
        is_warning = issubclass(given.error_type, Warning)
        for cls in PAIRS[name]:
            with (pytest.warns if is_warning else pytest.raises)(given.error_type) as caught:
                cls(copy.deepcopy(given.optimizer_error_input.params), **given.optimizer_error_input.kwargs)
            outcomes.append(str(caught[0].message if is_warning else caught.value))
        assert outcomes[0] == outcomes[1]


# ---- who wants to know of a step ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_hooks(name):
    """Around each step, with the arguments that it was called with; what they change counts."""

    def program(cls):
        parameters = params()
        optimizer = cls(parameters)
        calls = []

        def before(called, args, kwargs):
            calls.append(("before", called is optimizer, len(args), kwargs))
            for param in parameters:
                param.grad = torch.ones_like(param)

        def after(called, args, kwargs):
            calls.append(("after", len(args), kwargs))

        handles = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
        optimizer.step()
        optimizer.step(closure=None)
        optimizer.step(None)
        for handle in handles:
            handle.remove()
        fill(parameters)
        optimizer.step()
        return tensors_of(optimizer, parameters), calls

    (mine, calls), (theirs, expected) = both(name, program)
    assert calls == expected
    assert len(calls) == 6
    assert_close(mine, theirs)


def test_hooks_of_all_optimizers():
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    calls = []
    handles = [
        register_optimizer_step_pre_hook(lambda *args: calls.append("before")),
        register_optimizer_step_post_hook(lambda *args: calls.append("after")),
    ]
    parameters = params()
    fill(parameters)
    optimizer = PAIRS["RMSprop"][0](parameters)
    optimizer.step()
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert calls == ["before", "after"]


def test_a_hook_may_change_the_arguments():
    parameters = params()
    fill(parameters)
    for cls in PAIRS["SGD"]:
        optimizer = cls(parameters)
        optimizer.register_step_pre_hook(lambda called, args, kwargs: ((called, lambda: 7.0), {}))
        assert optimizer.step() == 7.0
        optimizer = cls(parameters)
        optimizer.register_step_pre_hook(lambda called, args, kwargs: 3)
        with pytest.raises(RuntimeError, match="must return None or a tuple"):
            optimizer.step()


def test_a_subclass_that_steps_around():
    """torch calls its hooks around the outermost step, once."""
    calls = []

    class Louder(PAIRS["RMSprop"][0]):
        def step(self, closure=None):
            calls.append("step")
            return super().step(closure)

    parameters = params()
    fill(parameters)
    optimizer = Louder(parameters)
    optimizer.register_step_pre_hook(lambda *args: calls.append("before"))
    optimizer.register_step_post_hook(lambda *args: calls.append("after"))
    optimizer.step()
    assert calls == ["before", "step", "after"]


@pytest.mark.parametrize("name", [name for name in PAIRS if hasattr(PAIRS[name][1], "_init_group")])
def test_a_subclass_that_changes_what_the_step_calls(name):
    """torch's step asks the class for the gradients, so it is torch that steps."""
    ours, theirs = PAIRS[name]

    def run(cls):
        class Signs(cls):
            def _init_group(self, group, with_grad, grads, *rest):
                found = super()._init_group(group, with_grad, grads, *rest)
                grads[:] = [torch.sign(grad) for grad in grads]
                return found

        parameters = params()
        fill(parameters)
        optimizer = Signs(parameters)
        optimizer.step()
        return optimizer, tensors_of(optimizer, parameters)

    (mine, found), (_, expected) = run(ours), run(theirs)
    assert_close(found, expected)
    assert mine.fallbacks() == [(0, None, None, "Signs has a _init_group of its own")]


@pytest.mark.parametrize("check", ["_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"])
def test_a_subclass_that_checks_something_before_a_step(check):
    """By the one name or the other, as the torch at hand calls it."""

    def program(cls):
        calls = []
        parameters = params()
        fill(parameters)
        type("Checked", (cls,), {check: lambda self: calls.append(check)})(parameters).step()
        return calls

    for name in OF_TORCH:
        mine, theirs = both(name, program)
        assert mine == theirs


def containers():
    """Groups and lists as torch takes them, though it makes others itself."""
    yield "OrderedDict", lambda cls, ps: cls([OrderedDict(params=ps, lr=0.1)])

    def tuple_of_params(cls, ps):
        optimizer = cls(ps, lr=0.1)
        optimizer.param_groups[0]["params"] = tuple(ps)
        return optimizer

    def tuple_of_groups(cls, ps):
        optimizer = cls(ps, lr=0.1)
        optimizer.param_groups = tuple(optimizer.param_groups)
        optimizer.defaults = OrderedDict(optimizer.defaults)
        return optimizer

    yield "tuple of params", tuple_of_params
    yield "tuple of groups", tuple_of_groups


@pytest.mark.parametrize("make", [make for _, make in containers()], ids=[what for what, _ in containers()])
@pytest.mark.parametrize("name", PAIRS)
def test_other_containers(name, make):
    def program(cls):
        parameters = params()
        optimizer = make(cls, parameters)
        for k in range(3):
            fill(parameters, k)
            optimizer.step()
            if k == 1:  # one is torch's
                parameters[1].grad = torch.zeros(34, dtype=torch.float64)[::2]
                optimizer.step()
        assert cls is PAIRS[name][1] or optimizer.fallbacks() == []
        return tensors_of(optimizer, parameters)

    mine, theirs = both(name, program)
    assert_close(mine, theirs)


def test_profilers_see_a_step():
    for name in ("RMSprop", "Adam"):
        parameters = params()
        fill(parameters)
        optimizer = PAIRS[name][0](parameters)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            optimizer.step()
        assert f"Optimizer.step#{name}.step" in {event.name for event in profile.events()}


def test_modes_see_the_operations():
    """As they do those of torch's step: it is torch's then."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    results = []
    for cls in PAIRS["RMSprop"]:
        seen = []
        parameters = params()
        fill(parameters)
        optimizer = cls(parameters)
        with Record():
            optimizer.step()
        results.append((seen, tensors_of(optimizer, parameters)))
        if hasattr(optimizer, "fallbacks"):
            assert "TorchDispatchMode" in optimizer.fallbacks()[0].reason
    assert results[0][0] == results[1][0] != []
    assert_equal(results[0][1], results[1][1])


# ---- closures, schedulers, scalers -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_closures(name):
    def program(cls):
        parameters = params()
        optimizer = cls(parameters, lr=1e-3)
        losses = []

        def closure():
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            loss = sum((p.square().sum() for p in parameters), torch.zeros(()))
            loss.backward()
            return loss

        for _ in range(4):
            with torch.no_grad():
                losses.append(optimizer.step(closure))
        return tensors_of(optimizer, parameters), torch.stack(losses).detach()

    (mine, losses), (theirs, expected) = both(name, program)
    assert_close(mine, theirs)
    assert_close([losses], [expected])


SCHEDULES = {
    "exponential": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7),
    "cosine": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
    "one cycle": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-2, total_steps=10, cycle_momentum="momentum" in optimizer.defaults
    ),
    "sequential": lambda optimizer: torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3), torch.optim.lr_scheduler.StepLR(optimizer, 2)],
        milestones=[4],
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # that torch 2.4 gives itself
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedulers(name, schedule):
    """Those that change lr, and one that changes the momentum with it."""

    def program(cls):
        parameters = params()
        momentum = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
        optimizer = cls(parameters, lr=1e-2, **momentum)
        scheduler = SCHEDULES[schedule](optimizer)
        found = []
        for k in range(8):
            fill(parameters, seed=k)
            optimizer.step()
            scheduler.step()
            found += [*tensors_of(optimizer, parameters), torch.tensor(optimizer.param_groups[0]["lr"])]
            if hasattr(cls, "fallbacks"):
                assert optimizer.fallbacks() == []
        return found

    assert_close(*both(name, program))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("fused", [False, True])
def test_grad_scaler(name, fused):
    """It unscales the gradients itself, or has a fused optimizer do so; a step with an infinite gradient is skipped."""

    def program(cls):
        parameters = params(torch.float32)[:2]
        optimizer = cls(parameters, **({"fused": True} if fused else {}))
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for k in range(5):
            optimizer.zero_grad()
            loss = sum((p * (float("inf") if k == 2 else 1.0)).square().sum() for p in parameters)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return tensors_of(optimizer, parameters)

    if fused and "fused" not in inspect.signature(PAIRS[name][1]).parameters:
        return
    mine, theirs = both(name, program)
    assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_averages_and_clipping(name):
    def program(cls):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
        average = torch.optim.swa_utils.AveragedModel(model)
        optimizer = cls(model.parameters(), lr=1e-2)
        for k in range(5):
            optimizer.zero_grad()
            model(torch.full((3, 4), float(k), dtype=torch.float64)).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            average.update_parameters(model)
        return [*tensors_of(optimizer, list(model.parameters())), *average.state_dict().values()]

    assert_close(*both(name, program))


# ---- groups ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_groups_and_a_group_that_is_added(name):
    if name == "Adagrad":
        takes_added_groups()

    def program(cls):
        parameters = params()
        groups = [parameters[:2], parameters[2:3], parameters[3:4]]
        optimizer = cls([{"params": group, "lr": 10.0 ** -(k + 1)} for k, group in enumerate(groups)])
        fill(parameters)
        optimizer.step()
        optimizer.add_param_group({"params": parameters[4:], "lr": 5e-3})
        for k in range(4):
            fill(parameters, seed=k)
            optimizer.step()
        if hasattr(cls, "fallbacks"):
            assert optimizer.fallbacks() == []
        return tensors_of(optimizer, parameters)

    assert_close(*both(name, program))


def takes_added_groups():
    """Skip where torch's Adagrad raises a KeyError at the first step of an added group, for it makes it no state."""
    parameters = params()
    fill(parameters)
    optimizer = torch.optim.Adagrad(parameters[:2])
    optimizer.add_param_group({"params": parameters[2:]})
    try:
        optimizer.step()
    except KeyError:
        pytest.skip("the Adagrad of this torch takes no added groups")


def test_adagrad_starts_an_added_group_as_torch_does():
    """At the default of the optimizer, whatever the group says."""
    takes_added_groups()

    def program(cls):
        parameters = params()
        optimizer = cls(parameters[:2], initial_accumulator_value=0.3)
        optimizer.add_param_group({"params": parameters[2:], "initial_accumulator_value": 0.7})
        for k in range(3):
            fill(parameters, seed=k)
            optimizer.step()
        return tensors_of(optimizer, parameters)

    assert_close(*both("Adagrad", program))


@pytest.mark.parametrize("name", PAIRS)
def test_every_option_may_change_between_steps(name):
    """Or it raises what torch raises."""
    defaults = PAIRS[name][1](params()).defaults
    changed = {bool: lambda value: not value, float: lambda value: value * 0.75 + 0.01, int: lambda value: value + 0.1}
    options = [key for key, value in defaults.items() if type(value) in changed]

    def program(cls):
        found = []
        for option in options:
            parameters = params()
            optimizer = cls(parameters, **({"momentum": 0.5} if name in ("SGD", "RMSprop") else {}))
            try:
                for k in range(3):
                    fill(parameters, seed=k)
                    optimizer.step()
                    if k == 0:
                        value = optimizer.param_groups[0][option]
                        optimizer.param_groups[0][option] = changed[type(value)](value)
                found += tensors_of(optimizer, parameters)
            except (KeyError, RuntimeError, AssertionError, TypeError) as error:
                found.append(torch.tensor(len(str(error))))
        return found

    assert_close(*both(name, program))


@pytest.mark.parametrize("name", PAIRS)
def test_an_option_that_torch_may_get_one_day(name):
    """An option of torch's class that is not known here is torch's, unless it stands at its default."""
    cls, theirs = PAIRS[name]

    class Later(theirs):
        def __init__(self, params, surprise=None, **options):
            super().__init__(params, **options)
            for group in self.param_groups:
                group["surprise"] = surprise

    class Ours(cls.__bases__[0], Later, here=cls._here, framework=cls._framework):
        _counter, _reads_tensors = cls._counter, cls._reads_tensors

    for surprise in None, 1, "other":
        parameters = params()
        fill(parameters)
        optimizer = Ours(parameters, surprise=surprise)
        optimizer.step()
        assert bool(optimizer.fallbacks()) == (surprise is not None)
        assert all("surprise" in fallback.reason for fallback in optimizer.fallbacks())


def test_an_option_that_an_older_torch_does_not_have():
    """Its Adam has no `decoupled_weight_decay`, and is stepped as without."""

    class Earlier(torch.optim.Adam):
        def __init__(self, params, lr=1e-3, weight_decay=0, foreach=None):
            super().__init__(params, lr=lr, weight_decay=weight_decay, foreach=foreach)
            for options in (self.defaults, *self.param_groups):
                options.pop("decoupled_weight_decay", None)

    class Ours(PAIRS["Adam"][0].__bases__[0], Earlier, here=instep.Adam):
        pass

    found = []
    for cls in Ours, torch.optim.Adam:
        parameters = params()
        fill(parameters)
        optimizer = cls(parameters, weight_decay=0.1)
        optimizer.step()
        found.append(tensors_of(optimizer, parameters))
        assert cls is not Ours or optimizer.fallbacks() == []
    assert_close(*found)


@pytest.mark.skipif(torch.__version__ < "2.6", reason="named parameters are of torch 2.6")
def test_what_a_fallback_says():
    parameters = params()
    fill(parameters)
    named = [("first", parameters[0]), ("second", parameters[1])]
    optimizer = PAIRS["RMSprop"][0]([{"params": named}, {"params": [("third", parameters[4])], "centered": True}])
    assert optimizer.fallbacks() == []
    parameters[1].grad = torch.zeros(34, dtype=torch.float64)[::2]
    optimizer.step()
    one, other = sorted(optimizer.fallbacks(), key=lambda fallback: fallback.group)
    assert (one.group, one.param, one.name) == (0, 1, "second")
    assert "strides" in one.reason
    assert (other.group, other.param, other.name) == (1, None, None)
    assert "variance" in other.reason
    del optimizer.param_groups[0]["params"][1], optimizer.param_groups[0]["param_names"][1]
    assert optimizer.fallbacks() == [one, other] or optimizer.fallbacks() == [other, one]  # as they were in the step
    fill(parameters)
    optimizer.param_groups[1]["centered"] = False
    optimizer.step()
    assert optimizer.fallbacks() == []


# ---- states ------------------------------------------------------------------------------------------------------


def on_disk(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0), (0, 0)], ids=["to torch", "from torch", "here to here"])
def test_state_dict(name, before, after):
    """A run goes on in the other class, or in another optimizer of this one, as if nothing had been."""
    options = {"momentum": 0.9} if name in ("RMSprop", "SGD", "RMSpropTF") else {}

    def program(before, after):
        parameters = params()
        optimizer = PAIRS[name][before]([{"params": parameters[:3], "lr": 3e-3}, {"params": parameters[3:]}], **options)
        for k in range(6):
            if k == 3:
                other = PAIRS[name][after]([{"params": parameters[:3]}, {"params": parameters[3:]}])
                other.load_state_dict(on_disk(optimizer.state_dict()))
                optimizer = other
            fill(parameters, seed=k)
            optimizer.step()
        return tensors_of(optimizer, parameters), optimizer.state_dict()

    (mine, state), (theirs, expected) = program(before, after), program(1, 1)
    assert_close(mine, theirs)
    assert state["param_groups"] == expected["param_groups"]
    assert list(state["state"]) == list(expected["state"])
    for index in expected["state"]:
        assert list(state["state"][index]) == list(expected["state"][index])


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda of: pickle.loads(pickle.dumps(of))}


@pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning")  # as torch 2.4 unpickles a tensor
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("how", COPIES)
def test_copies(name, how):
    """With the parameters, as torch's: the copy is apart and goes on alike."""

    def program(cls):
        parameters = params()
        optimizer = cls(parameters)
        for k in range(2):
            fill(parameters, seed=k)
            optimizer.step()
        copied, others = COPIES[how]((optimizer, parameters))
        assert type(copied) is cls
        found = []
        for opt, tensors in ((optimizer, parameters), (copied, others)):
            for k in range(2):
                fill(tensors, seed=k)
                opt.step()
            found.append(tensors_of(opt, tensors))
        assert_equal(*found)
        return found[0]

    assert_close(*both(name, program))


def test_older_pickles():
    """What a torch of long ago left out of a state is filled in by torch."""
    parameters = params()
    optimizer = PAIRS["RMSprop"][0](parameters)
    fill(parameters)
    optimizer.step()
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        for key in ("maximize", "differentiable", "capturable", "foreach"):
            del group[key]
    for entries in state["state"].values():
        entries["step"] = 1
    optimizer.load_state_dict(state)
    optimizer.step()
    assert optimizer.fallbacks() == []
    assert all(entries["step"] == 2 for entries in optimizer.state.values())


def test_the_momentum_that_is_turned_on_later():
    """As torch: a KeyError from RMSprop, a new buffer from SGD, which old files have as None."""

    def program(cls):
        parameters = params()
        optimizer = cls(parameters)
        fill(parameters)
        optimizer.step()
        optimizer.param_groups[0]["momentum"] = 0.9
        optimizer.step()
        for state in optimizer.state.values():
            state["momentum_buffer"] = None
        optimizer.param_groups[0]["dampening"] = 0.5
        optimizer.step()
        optimizer.step()
        return tensors_of(optimizer, parameters)

    for cls in PAIRS["RMSprop"]:
        with pytest.raises(KeyError, match="momentum_buffer"):
            program(cls)
    assert_close(*both("SGD", program))


def test_the_default_type_is_that_of_the_count():
    for default in torch.float64, torch.float32:
        torch.set_default_dtype(default)
        try:
            counts = []
            for cls in PAIRS["Adam"]:
                parameters = params()
                fill(parameters)
                optimizer = cls(parameters)
                optimizer.step()
                counts.append(optimizer.state[parameters[0]]["step"])
            assert_equal(counts[:1], counts[1:])
        finally:
            torch.set_default_dtype(torch.float32)


# ---- around it ---------------------------------------------------------------------------------------------------


def test_threads_of_torch_are_the_limit():
    """A large step uses no more than torch may, and leaves the number as it was."""
    param = torch.nn.Parameter(torch.randn(1 << 20))
    param.grad = torch.randn(1 << 20)
    optimizer = PAIRS["SGD"][0]([param])
    before = torch.get_num_threads()
    instep.set_num_threads(2)
    for number in 1, 2, 3:
        torch.set_num_threads(number)
        optimizer.step()
        assert instep.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads in /proc")
def test_a_large_step_runs_on_the_threads_of_torch():
    """They look for work on the cores that others would need, so none are made beside them."""
    done = python("""
        import os, torch, instep, instep.torch
        assert "OpenMP" in torch.__config__.parallel_info()
        instep.set_num_threads(2)
        torch.set_num_threads(2)
        param = torch.nn.Parameter(torch.zeros(1 << 20))
        (param * 2).sum().backward()
        before = len(os.listdir("/proc/self/task"))
        optimizer = instep.torch.SGD([param], lr=0.5)
        for _ in range(50):
            optimizer.step()
        assert optimizer.fallbacks() == []
        assert torch.equal(param, torch.full_like(param, -50.0))
        print(len(os.listdir("/proc/self/task")) - before)
    """)
    assert done.stdout.strip() == "0", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks of POSIX")
@pytest.mark.parametrize(("count", "size"), [(200, 2000), (1, 1 << 20)])
def test_a_forked_child_goes_on_stepping(count, size):
    """Torch's operations hang there once it has threads: a step makes none that its own would not."""
    done = python(f"""
        import os, signal, torch, instep, instep.torch
        instep.set_num_threads(2)
        torch.set_num_threads(2)
        params = [torch.nn.Parameter(torch.zeros({size})) for _ in range({count})]
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer = instep.torch.SGD(params, lr=1.0)
        optimizer.step()
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            if {count} > 1:
                torch.ones(100_000).mul_(2)
            optimizer.step()
            os._exit(0 if params[-1].detach().numpy().max() == -2 else 1)
        assert os.waitpid(child, 0)[1] == 0
    """)
    assert done.returncode == 0, done.stderr


def test_several_threads_share_an_optimizer():
    """One step at a time: each is counted, and moves by all of lr."""
    param = torch.nn.Parameter(torch.zeros(200_000))
    param.grad = torch.ones_like(param)
    optimizer = PAIRS["Adam"][0]([param], lr=0.01, eps=1e-30)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: [optimizer.step() for _ in range(50)], range(6)))
    assert optimizer.state[param]["step"] == 300
    assert param.min().item() == param.max().item() == pytest.approx(-3, rel=1e-4)


def test_several_threads_step_side_by_side():
    """One optimizer each, while a large one lets them."""
    large = torch.nn.Parameter(torch.zeros(1 << 18))
    small = [torch.nn.Parameter(torch.zeros(100)) for _ in range(3)]
    for param in (large, *small):
        param.grad = torch.ones_like(param)
    optimizers = [PAIRS["SGD"][0]([param], lr=1.0) for param in (large, *small)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda optimizer: [optimizer.step() for _ in range(50)], optimizers))
    for param in (large, *small):
        assert torch.equal(param, torch.full_like(param, -50.0))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["RMSprop", "Adam", "SGD"])
@pytest.mark.parametrize("what", ["model", "step", "function"])
def test_compile(name, what):
    """`torch.compile` around a step traces torch's; around a model it leaves the step alone.

    Around a function that calls the step, torch compiles the step or not, by what it has compiled before.
    """

    def program(cls):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        optimizer = cls(model.parameters(), lr=1e-2)
        forward = torch.compile(model, backend="eager") if what == "model" else model
        whole = {"function": lambda: optimizer.step()}.get(what, optimizer.step)
        step = whole if what == "model" else torch.compile(whole, backend="eager")
        for k in range(4):
            optimizer.zero_grad()
            forward(torch.full((3, 4), float(k))).square().mean().backward()
            step()
        if cls is PAIRS[name][0]:
            compiled = [(0, None, None, "the step was compiled")]
            assert optimizer.fallbacks() in {"model": [[]], "step": [compiled], "function": [[], compiled]}[what]
            optimizer.step()
            assert optimizer.fallbacks() == []
        else:
            optimizer.step()
        return tensors_of(optimizer, list(model.parameters()))

    mine, theirs = both(name, program)
    assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_ten_compiled_steps_in_one_process():
    """torch counts what it has compiled by code objects, and stops at a limit: each class has its own."""
    torch._dynamo.reset()
    for k in range(10):
        base = PAIRS[OF_TORCH[k % len(OF_TORCH)]][0].__bases__
        cls = type(f"Number{k}", base, {}, here=PAIRS[OF_TORCH[k % len(OF_TORCH)]][0]._here)
        parameters = [torch.nn.Parameter(torch.ones(3))]
        optimizer = cls(parameters)
        step = torch.compile(optimizer.step, backend="eager")
        for _ in range(2):
            fill(parameters)
            step()
            assert optimizer.fallbacks() == [(0, None, None, "the step was compiled")]
    torch._dynamo.reset()


def python(program):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)


def test_torch_is_not_imported_before_it_is_needed():
    done = python("import sys, instep; assert 'torch' not in sys.modules; import instep.torch")
    assert done.returncode == 0, done.stderr


def test_reads_within_torch():
    """The table is there from torch 2.10 on.  Without any of it the other tests would pass, and a step take longer."""
    from instep import _torch

    assert _torch.read_within(table=True, functions=True) == (torch.__version__ >= "2.10", True)


def test_imports_in_inference_mode():
    done = python("""
        import torch
        with torch.inference_mode():
            from instep.torch import RMSprop
        from instep import _torch
        assert _torch.read_within(table=True, functions=True) == (True, True)
    """)
    assert done.returncode == 0, done.stderr


def test_an_older_torch():
    """One without DLPack's table; and one that is too old."""
    done = python("""
        import torch
        if hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
            del torch.Tensor.__dlpack_c_exchange_api__
        from instep.torch import RMSprop
        from instep import _torch
        assert _torch.read_within(table=True, functions=False) == (False, False)
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = RMSprop([weight])
        loss = (weight * weight).sum()
        weight.grad = torch.ones(3)
        optimizer.step()
        assert optimizer.fallbacks() == []
        try:
            loss.backward()
        except RuntimeError:
            pass
        else:
            raise AssertionError
    """)
    assert done.returncode == 0, done.stderr
    done = python("""
        import torch
        torch.__version__ = "2.3.1+cpu"
        try:
            import instep.torch
        except ImportError as error:
            assert '2.3.1+cpu' in str(error) and 'pip install -U torch' in str(error), error
        else:
            raise AssertionError
    """)
    assert done.returncode == 0, done.stderr


def test_without_torch():
    done = python("""
        import sys
        sys.modules["torch"] = None
        try:
            import instep.torch
        except ImportError as error:
            assert 'pip install torch' in str(error), error
        else:
            raise AssertionError
    """)
    assert done.returncode == 0, done.stderr
