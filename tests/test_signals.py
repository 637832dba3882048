"""A signal never leaves half a step, and finds no worker to be handled by."""

import gc
import itertools
import os
import platform
import sys
from contextlib import ExitStack

import numpy as np
import pytest

import instep
from another_process import python
from floating_point import MODES, floating_point_mode
from instep import _core
from instep.checkpoint import atomic, file, state_dict
from interrupts import interrupt_at


def test_interrupted_steps_are_whole_or_not_at_all():
    """The promise's 500, at any moment of a step or between two."""
    script = """
        import os, random, signal, threading, time
        import instep
        from walker import Walker

        interrupts = 500
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background takes away
        instep.set_num_threads(4)
        walker = Walker()
        begun = done = caught = 0
        ready = False  # to be interrupted: inside the try, and nowhere else

        def interrupt():
            global ready
            delays = random.Random(15)
            for _ in range(interrupts):
                while not ready:
                    time.sleep(0)
                ready = False
                time.sleep(delays.uniform(0, 0.002))
                os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        while caught < interrupts:
            try:
                ready = True
                while True:
                    begun += 1
                    walker.step()
                    done += 1
            except KeyboardInterrupt:
                caught += 1
        thread.join()
        assert done <= walker.optimizer.step_count <= begun
        assert walker.is_whole()
        walker.step()
        assert walker.is_whole()
    """
    python(script, timeout=120)


def test_interrupted_while_gradients_are_looked_at():
    """Nothing is stepped, and the optimizer is free again."""
    script = """
        import os, signal
        import numpy as np
        import instep

        class Key:
            signals = False
            def __hash__(self):
                if Key.signals:
                    os.kill(os.getpid(), signal.SIGINT)
                return 7

        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background takes away
        keys = ["first", Key(), "last"]
        params = {key: np.zeros(8, np.float32) for key in keys}
        grads = {key: np.ones(8, np.float32) for key in keys}
        optimizer = instep.RMSprop(params)
        Key.signals = True
        try:
            optimizer.step(grads)
        except KeyboardInterrupt:
            Key.signals = False
            assert optimizer.step_count == 0
            assert not any(param.any() for param in optimizer.params.values())
        else:
            raise AssertionError("no signal")
        optimizer.step(grads)
        assert optimizer.step_count == 1
    """
    python(script)


@pytest.mark.parametrize("grad_dtype", ["float16", "float32"])
def test_interrupted_sums_have_all_of_a_gradient_or_nothing(grad_dtype):
    for k in itertools.count():
        params = {"whole": [np.zeros(3, np.float32) for _ in range(4)], "rows": np.zeros((3, 1), np.float32)}
        grads = {
            "whole": [np.ones(3, grad_dtype) for _ in range(4)],
            "rows": instep.Rows(np.arange(3), np.ones((3, 1), grad_dtype)),
        }
        optimizer = instep.SGD(params, lr=1)
        optimizer.accumulate(grads)
        sys.settrace(interrupt_at(k))
        try:
            optimizer.accumulate(grads)
        except KeyboardInterrupt:
            done = False
        else:
            done = True
        finally:
            sys.settrace(None)
        optimizer.step()
        moved = {float(x) for param in (*params["whole"], params["rows"]) for x in param.flat}
        assert moved in ({-1.0}, {-2.0}), f"interrupted at {k}"
        if done:
            assert moved == {-2.0}
            break
    assert k > 10


@pytest.mark.unemulated("the signals that are shown as blocked are those of the emulator")
def test_workers_leave_signals_to_others():
    """All but the faults, which faulthandler is to report from the thread that they happen in."""
    script = """
        import os, signal, time
        from pathlib import Path
        import instep
        from walker import Walker

        others = set(os.listdir("/proc/self/task"))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        instep.set_num_threads(4)
        Walker().step()
        assert signal.pthread_sigmask(signal.SIG_SETMASK, mask) == {signal.SIGUSR2}
        workers = set(os.listdir("/proc/self/task")) - others
        assert len(workers) == 3

        def blocked(worker):
            status = Path(f"/proc/self/task/{worker}/status").read_text()
            mask = int(status.split("SigBlk:")[1].split()[0], 16)
            return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}

        faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}
        never = {signal.SIGKILL, signal.SIGSTOP}
        for worker in workers:
            for _ in range(1000):
                if signal.SIGSEGV not in blocked(worker):
                    break
                time.sleep(0.01)  # the C library blocks everything until a thread has begun
            assert blocked(worker) == signal.valid_signals() - faults - never
    """
    python(script)


def test_a_handler_may_save_and_assign_what_is_about_to_be_stepped():
    """A map is looked at by Python code, in the midst of which handlers run."""
    script = """
        import signal, tempfile, time
        import numpy as np
        import instep

        with tempfile.NamedTemporaryFile() as file:
            np.ones(4).tofile(file.name)
            grad = np.memmap(file.name, dtype=float, mode="r", shape=4)
            optimizer = instep.RMSprop(np.ones(4))
            handled = refused = 0

            def handle(signum, frame):
                global handled, refused
                handled += 1
                optimizer.state_dict()
                optimizer.lr = 0.01
                optimizer.momentum = 0.9 * (handled % 2)
                try:
                    optimizer.step(np.ones(4))
                except RuntimeError as error:
                    assert "in the middle of a call" in str(error)
                    refused += 1

            signal.signal(signal.SIGALRM, handle)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                optimizer.step(grad)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert handled > 20 and refused > 0
    """
    python(script)


STICKY = 0 if platform.machine() == "aarch64" else 0x3F  # what arithmetic has met, the interpreter's own too


@pytest.mark.parametrize("run", [_core.run_in_default_arithmetic, _core.run_in_step_arithmetic])
@pytest.mark.parametrize("mode", MODES)
def test_an_interrupt_leaves_the_floating_point_mode_and_the_warnings_of_numpy(run, mode):
    before, tracing = np.geterr(), sys.gettrace()
    for k in itertools.count():
        interrupted = False
        with floating_point_mode(MODES[mode]) as left:
            sys.settrace(interrupt_at(k))
            try:
                run(abs, (1,), {})
            except KeyboardInterrupt:
                interrupted = True
            finally:
                sys.settrace(tracing)
        after = np.geterr()
        np.seterr(**before)
        assert (after, left.control & ~STICKY) == (before, MODES[mode]), k
        if not interrupted:
            break
    assert k > 1


def restart(optimizer):
    """What a checkpoint taken before any step would do."""
    optimizer.load_state_dict(instep.RMSprop([np.ones(3)], rho=0.5).state_dict())


HANDLERS = {
    "assigns another option": lambda optimizer: setattr(optimizer, "rho", 0.5),
    "assigns the same option": lambda optimizer: setattr(optimizer, "lr", 0.25),
    "drops a state": lambda optimizer: setattr(optimizer, "momentum", 0.0),
    "makes a state": lambda optimizer: setattr(optimizer, "centered", True),
    "converts a state": lambda optimizer: setattr(optimizer, "lr_in_momentum", True),
    "loads": restart,
}
ASSIGNMENTS = [("lr", 0.5), ("momentum", 0.5), ("centered", True), ("lr_in_momentum", True), ("maximize", True)]


@pytest.mark.parametrize("hook", ["_keeps_states", "_make_states"])
@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize(("name", "value"), ASSIGNMENTS)
def test_what_a_handler_does_in_the_middle_of_an_assignment_comes_first(hook, handler, name, value):
    """Python code runs while states are made for new options, and with it handlers."""
    pending = []

    def interrupted(self, *args):
        result = getattr(instep.RMSprop, hook)(self, *args)
        if pending:
            pending.pop()(self)
        return result

    kind = type("Interrupted", (instep.RMSprop,), {hook: interrupted, "__slots__": ()})
    optimizer, other = kind([np.ones(3)], momentum=0.9), instep.RMSprop([np.ones(3)], momentum=0.9)
    for one in (optimizer, other):
        one.step([np.arange(3.0)])
    pending.append(handler)
    setattr(optimizer, name, value)
    if not pending:
        handler(other)
    setattr(other, name, value)
    for one in (optimizer, other):
        one.step([np.arange(3.0)])
    assert optimizer.options == other.options
    assert optimizer.step_count == other.step_count
    assert list(optimizer.state) == list(other.state)
    for mine, its in zip(
        (optimizer.params, *optimizer.state.values()), (other.params, *other.state.values()), strict=True
    ):
        assert mine[0].tobytes() == its[0].tobytes()


def interrupted(call):
    """Call it until no handler interrupts it, one place later each time: what each interrupt raised."""
    caught = []  # and not a variable, in which the traceback would live on
    for k in itertools.count():
        tracing = sys.gettrace()
        sys.settrace(interrupt_at(k))
        try:
            call()
        except KeyboardInterrupt as error:
            caught.append(error)
        finally:
            sys.settrace(tracing)
        if not caught:
            return
        yield caught.pop()


def test_an_interrupt_leaves_no_average_in_the_parameters():
    params = np.ones(20, np.float32)
    optimizer = instep.SGD(params, average_decay=0.9)
    for _ in range(3):
        optimizer.step(np.ones(20, np.float32))
    before, seen = params.tobytes(), []

    def evaluate():
        with optimizer.averaged():
            seen.append(params.tobytes())

    def in_a_stack():
        with ExitStack() as stack:
            stack.enter_context(optimizer.averaged())
            seen.append(params.tobytes())

    count = 0
    for error in interrupted(evaluate):  # whose traceback is alive, as it is at the prompt
        assert params.tobytes() == before, error
        count += 1
    assert count > 2
    for error in interrupted(in_a_stack):
        del error
        gc.collect()
        assert params.tobytes() == before
    assert seen
    assert before not in seen
    optimizer.step(np.zeros(20, np.float32))


def test_an_interrupt_leaves_the_number_of_threads():
    before = instep.get_num_threads()

    def limited():
        with instep.num_threads(before + 1):
            pass

    count = 0
    for error in interrupted(limited):
        del error
        gc.collect()
        assert instep.get_num_threads() == before
        count += 1
    assert count > 10


class Deadline(TimeoutError):
    """What a handler may raise: an OSError, but none of the system."""


class Stop(ValueError):
    """What a handler may raise: a ValueError, but none about a file."""


def write(folder):
    abandoned = folder / f".instep-{'0' * 16}.tmp"
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    instep.SGD(np.ones(3)).save(folder / "checkpoint")


def read(folder):
    instep.SGD(np.ones(3)).load(folder / "sound")


def step_by_maps(folder):
    grads = [np.memmap(folder / "map", np.float64, "r", shape=3, offset=24 * k) for k in range(2)]
    instep.SGD([np.ones(3), np.ones(3)]).step(grads)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a file that was opened as the handler raised
@pytest.mark.parametrize("call", [write, read, step_by_maps])
@pytest.mark.parametrize("kind", [Deadline, Stop])
def test_what_a_handler_raises_arrives_as_it_is(tmp_path, call, kind):
    instep.SGD(np.ones(3)).save(tmp_path / "sound")
    np.ones(6).tofile(tmp_path / "map")
    files = (atomic.__file__, file.__file__, state_dict.__file__, os.path.getsize.__code__.co_filename, __file__)
    for k in itertools.count():
        raised = kind("from the handler")
        tracing, arrived = sys.gettrace(), None
        try:
            sys.settrace(interrupt_at(k, *files, error=raised))
            call(tmp_path)
        except Exception as error:
            arrived = error
        finally:
            sys.settrace(tracing)
        if arrived is None and raised.__traceback__ is None:
            break
        assert arrived is raised, k
    assert k > 5
    gc.collect()  # while the filter holds: frame, its trace function, what that raises, traceback
