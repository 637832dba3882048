"""One optimizer, several threads: waiting sleeps, reading does not wait, a signal is answered (promise 14)."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import instep

LARGE = 20_000_000  # elements: a step takes milliseconds


def python(code, **options):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def busy():
    """An optimizer that another thread steps all the time."""
    param, grad = np.zeros(LARGE, np.float32), np.ones(LARGE, np.float32)
    optimizer = instep.SGD(param)
    stop = threading.Event()

    def trainer():
        while not stop.is_set():
            optimizer.step(grad)

    thread = threading.Thread(target=trainer)
    thread.start()
    yield optimizer
    stop.set()
    thread.join()


def test_reading_does_not_wait(busy):
    begin, before = time.perf_counter(), busy.step_count
    for _ in range(2000):
        assert busy.lr == 0.01
        assert busy.options["momentum"] == 0.0
        assert busy.step_count >= before
    steps = busy.step_count - before
    assert steps < 1000, f"{steps} steps in {time.perf_counter() - begin:.1f} s: every read waited for one"


def test_waiting_takes_no_processor_time():
    """Ten threads wait while one sleeps in the middle of a call."""
    code = """
        import threading, time
        import numpy as np, instep
        class Slow(instep.SGD):
            __slots__ = ()
            def _make_states(self, *arguments):
                time.sleep(1.0)
                return super()._make_states(*arguments)
        optimizer = Slow(np.zeros(3))
        def wait():
            time.sleep(0.2)
            optimizer.step(np.ones(3))
        threads = [threading.Thread(target=wait) for _ in range(10)]
        for thread in threads:
            thread.start()
        begin = time.process_time()
        optimizer.momentum = 0.9  # makes states under the lock
        used = time.process_time() - begin
        for thread in threads:
            thread.join()
        assert optimizer.step_count == 10
        print(used)
    """
    assert float(python(code)) < 0.3


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")
def test_an_interrupt_is_answered_while_waiting():
    code = """
        import os, signal, threading, time
        import numpy as np, instep
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        class Slow(instep.SGD):
            __slots__ = ()
            def _make_states(self, *arguments):
                if threading.current_thread() is not threading.main_thread():
                    holds.set()
                    lets_go.wait(60)
                return super()._make_states(*arguments)
        holds, lets_go = threading.Event(), threading.Event()
        optimizer = Slow(np.zeros(3))
        def hold():
            optimizer.momentum = 0.9
        holder = threading.Thread(target=hold)
        holder.start()
        holds.wait()
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            optimizer.step(np.ones(3))
        except KeyboardInterrupt:
            answered = holder.is_alive()
        assert answered
        assert optimizer.step_count == 0
        lets_go.set()
        holder.join()
        optimizer.step(np.ones(3))
        assert optimizer.step_count == 1
    """
    python(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks of POSIX")
@pytest.mark.parametrize("by", ["another thread", "who forks"])
def test_a_fork_frees_what_another_thread_holds(by):
    code = f"""
        import os, signal, threading, time
        import numpy as np, instep
        class Held(instep.SGD):
            __slots__ = ()
            def _make_states(self, *arguments):
                if active:
                    meanwhile()
                return super()._make_states(*arguments)
        active = False
        holds, forked = threading.Event(), threading.Event()
        def end(child):
            if child == 0:
                optimizer.step(np.ones(3))
                os._exit(0 if optimizer.step_count == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0
        def meanwhile():
            global child
            if {by!r} == "who forks":
                child = os.fork()
            else:
                holds.set()
                forked.wait()
        optimizer = Held(np.zeros(3))
        active = True
        def assign():
            optimizer.momentum = 0.9
        if {by!r} == "who forks":
            assign()
            active = False
            end(child)
        else:
            thread = threading.Thread(target=assign)
            thread.start()
            holds.wait()
            child = os.fork()
            if child == 0:
                signal.alarm(20)
            else:
                forked.set()
            end(child)
            thread.join()
            optimizer.step(np.ones(3))
    """
    python(code)
