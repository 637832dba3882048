"""A checkpoint is written whole: whatever goes wrong, the file is the old one or the new one.

Faults are put in the place of every call to the system in turn: errors, kills, and a limit that the kernel itself
enforces.
"""

import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import instep
from instep.checkpoint import atomic
from interrupts import interrupt_at

OLD, NEW = dict(lr=0.25), dict(lr=0.125, momentum=0.5)


def small(options=NEW):
    optimizer = instep.RMSprop({"w": np.ones(2, np.float32)}, **options)
    optimizer.step({"w": np.array([0.5, -3], np.float32)})
    return optimizer


def small_bytes(path, options=NEW):
    small(options).save(path)
    return path.read_bytes()


CALLS = ("stat", "open", "fchmod", "write", "fsync", "close", "replace")
EVERY, NONE = "every", "none"


class FaultyOS:
    """The module `os`, but a fault takes the place of the call to the system of this number, or of every one."""

    def __init__(self, at, fault):
        self.at = at
        self.fault = fault
        self.calls = []

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*arguments):
            self.calls.append((name, arguments))
            if self.at in (EVERY, len(self.calls) - 1):
                return self.fault(real, arguments)
            return real(*arguments)

        return call


def raises_instead(error):
    def fault(real, arguments):
        if real is os.close:
            real(*arguments)  # a descriptor is gone whatever close says
        raise error

    return fault


def raises_after(error):
    def fault(real, arguments):
        with suppress(FileNotFoundError):
            real(*arguments)
        raise error

    return fault


def writes_half(real, arguments):
    if real is not os.write:
        return real(*arguments)
    file, content = arguments
    return os.write(file, content[: (len(content) + 1) // 2])


def writes_nothing(real, arguments):
    return 0 if real is os.write else real(*arguments)


def fills_the_disk(real, arguments):
    if real is os.write:
        writes_half(real, arguments)
    raise OSError(errno.ENOSPC, "no space")


ERRORS = {
    "no space": OSError(errno.ENOSPC, "no space"),
    "I/O error": OSError(errno.EIO, "I/O error"),
    "interrupted": InterruptedError(errno.EINTR, "interrupted"),
    "Ctrl-C": KeyboardInterrupt(),
}
FAULTS = (
    {f"{name}, instead": raises_instead(error) for name, error in ERRORS.items()}
    | {f"{name}, after": raises_after(error) for name, error in ERRORS.items()}
    | {"a full disk": fills_the_disk}
)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("exists", [True, False], ids=["replacing", "new"])
def test_a_fault_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch, fault, exists):
    path = tmp_path / "checkpoint"
    new = small_bytes(path)
    old = small_bytes(path, OLD)
    optimizer = small()
    for k in count():
        if exists:
            path.write_bytes(old)
        else:
            path.unlink(missing_ok=True)
        faulty = FaultyOS(k, fault)
        monkeypatch.setattr(atomic, "os", faulty)
        try:
            optimizer.save(path)
        except (OSError, KeyboardInterrupt):
            found = path.read_bytes() if path.exists() else None
            assert found in (new, old if exists else None)
            assert {file.name for file in tmp_path.iterdir()} <= {"checkpoint"}
            assert k < len(faulty.calls)
        else:
            assert path.read_bytes() == new
            assert k == len(faulty.calls)  # a save that met a fault has said so
            break
    assert k >= 10


@pytest.mark.parametrize("fault", [writes_half, writes_nothing], ids=["half", "nothing"])
def test_a_short_write_is_gone_on_with_and_an_empty_one_is_an_error(tmp_path, monkeypatch, fault):
    path = tmp_path / "checkpoint"
    new = small_bytes(path)
    old = small_bytes(path, OLD)
    optimizer = small()
    monkeypatch.setattr(atomic, "os", FaultyOS(EVERY, fault))
    if fault is writes_half:
        optimizer.save(path)
        assert path.read_bytes() == new
        assert sum(name == "write" for name, _ in atomic.os.calls) > 10
    else:
        with pytest.raises(OSError, match="nothing was written"):
            optimizer.save(path)
        assert path.read_bytes() == old
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint"}


def test_the_data_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    """What a power cut may undo cannot be seen in the file, so look at the calls: each but the last is made durable."""
    recorder = FaultyOS(NONE, None)
    monkeypatch.setattr(atomic, "os", recorder)
    opened = []

    def note_open(path, *arguments):
        opened.append((Path(path), os.open(path, *arguments)))
        recorder.calls.append(("open", (path,)))
        return opened[-1][1]

    recorder.open = note_open
    small().save(tmp_path / "checkpoint")
    names = [name for name, _ in recorder.calls]
    renaming = names.index("replace")
    source, target = map(Path, recorder.calls[renaming][1])
    (written, file), (folder, _) = opened
    assert (source, target, folder) == (written, tmp_path / "checkpoint", tmp_path)
    assert source.parent == target.parent
    writing = max(k for k, name in enumerate(names) if name == "write")
    syncing = [k for k, call in enumerate(recorder.calls) if call[0] == "fsync"]
    assert len(syncing) == 2
    assert writing < syncing[0] < renaming < syncing[1]
    assert recorder.calls[syncing[0]][1] == (file,)
    assert renaming < max(k for k, name in enumerate(names) if name == "open") < syncing[1]


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("number", [None, errno.ENOTSUP, errno.EIO])
def test_macos_has_a_call_that_empties_the_cache_of_the_drive(tmp_path, monkeypatch, system, number):
    """Where it can: without it, fsync does what can be done; any other error is one."""
    recorder = FaultyOS(NONE, None)
    emptied = []

    def empty(file, command):
        emptied.append((file, command))
        if number is not None:
            raise OSError(number, "an error")

    monkeypatch.setattr(atomic, "os", recorder)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", empty)
    path = tmp_path / "checkpoint"
    path.write_bytes(b"old")
    if system == "darwin" and number == errno.EIO:
        with pytest.raises(OSError, match="an error"):
            small().save(path)
        assert path.read_bytes() == b"old"
        return
    small().save(path)
    assert [command for _, command in emptied] == ([51, 51] if system == "darwin" else [])
    synced = [arguments for name, arguments in recorder.calls if name == "fsync"]
    assert len(synced) == (0 if system == "darwin" and number is None else 2)


def sweep_in_children(folder, prepare):
    """Save in forked children, the k-th one prepared with k, until one has met no obstacle; prints how many did.

    Runs in a process of its own, for a fork of the one that runs the tests would take along whatever they left there.
    """
    path = Path(folder) / "checkpoint"
    new = small_bytes(path)
    old = small_bytes(path, OLD)
    optimizer = small()
    for k in count():
        path.write_bytes(old)
        for left in Path(folder).glob(".instep-*.tmp"):
            left.unlink()
        child = os.fork()
        if child == 0:
            try:
                prepare(k, len(new))
                optimizer.save(path)
            except OSError:
                os._exit(7)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 7, -signal.SIGKILL), status
        assert path.read_bytes() in ({new} if status == 0 else {old} if status == 7 else {old, new})
        assert status < 0 or {file.name for file in path.parent.iterdir()} == {"checkpoint"}
        if status == 0:
            print(k)
            return


def kill_at(k, _):
    def killed(real, arguments):
        if k % 2 and real is os.write:
            writes_half(real, arguments)
        elif k % 2:
            real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    atomic.os = FaultyOS(k // 2, killed)


def limit_to(k, size):
    """The kernel itself cuts the file off: a short write, then an error."""
    limit = size if k * 61 > size else min(k * 61, size - 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize(("obstacle", "least"), [("kill_at", 20), ("limit_to", 10)])
def test_a_kill_or_a_cut_leaves_the_old_file_or_the_new_one(tmp_path, obstacle, least):
    script = f"import test_atomic as t; t.sweep_in_children({str(tmp_path)!r}, t.{obstacle})"
    met = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    ).stdout
    assert int(met) >= least


def test_a_link_is_followed_and_permissions_stay(tmp_path):
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "checkpoint"
    link = tmp_path / "link"
    link.symlink_to(path)
    new = small_bytes(link)
    assert link.is_symlink()
    path.chmod(0o640)
    small(OLD).save(link)
    small().save(link)
    assert path.read_bytes() == new
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("call", [call for call in CALLS if call != "stat"])
def test_an_error_names_the_path_that_was_given(tmp_path, monkeypatch, call):
    """And not the temporary file, nor what a link leads to."""
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "checkpoint")
    (tmp_path / "checkpoint").write_bytes(b"old")

    def fault(real, arguments):
        if real.__name__ != call:
            return real(*arguments)
        if real is os.close:
            real(*arguments)
        raise OSError(errno.ENOSPC, "no space", *[argument for argument in arguments if isinstance(argument, str)][:1])

    monkeypatch.setattr(atomic, "os", FaultyOS(EVERY, fault))
    with pytest.raises(OSError, match="no space") as caught:
        small().save(path)
    assert (caught.value.errno, caught.value.filename, caught.value.filename2) == (errno.ENOSPC, str(path), None)


@pytest.mark.parametrize("name", ["new/", "new/.", "there/", "./"])
def test_the_name_of_a_folder_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("there").write_bytes(b"a file")
    with pytest.raises(IsADirectoryError, match="the name of a folder, not of a file") as caught:
        small().save(name)
    assert caught.value.filename == name
    assert os.listdir() == ["there"]


@pytest.mark.parametrize("name", ["missing/checkpoint", "file/checkpoint"])
def test_a_folder_that_is_none_is_named_as_it_was_given(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"")
    with pytest.raises((FileNotFoundError, NotADirectoryError)) as caught:
        small().save(name)
    assert caught.value.filename == name


@pytest.mark.parametrize("what", ["directory", "fifo"])
def test_nothing_but_a_file_is_replaced(tmp_path, what):
    path = tmp_path / "thing"
    path.mkdir() if what == "directory" else os.mkfifo(path)
    before = path.stat()
    with pytest.raises(OSError, match="regular"):
        small().save(path)
    assert path.stat().st_ino == before.st_ino
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("call", "number"), [("open", errno.EACCES), ("open", errno.EPERM), ("fsync", errno.EINVAL)])
def test_a_folder_that_is_not_to_be_listed_or_synced_is_no_failure(tmp_path, monkeypatch, call, number):
    """The file is there by then.  The same of the file is one."""
    path = tmp_path / "checkpoint"
    new = small_bytes(path)
    for at, of in enumerate(("file", "folder")):
        path.write_bytes(b"old")
        faulty, seen = FaultyOS(EVERY, None), []

        def fault(real, arguments, at=at, seen=seen):
            if real.__name__ == call:
                seen.append(real)
                if len(seen) == at + 1:
                    raise OSError(number, os.strerror(number))
            return real(*arguments)

        faulty.fault = fault
        monkeypatch.setattr(atomic, "os", faulty)
        if of == "file":
            with pytest.raises(OSError, match=os.strerror(number)):
                small().save(path)
            assert path.read_bytes() == b"old"
        else:
            small().save(path)
            assert path.read_bytes() == new
        assert len(seen) > at
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_what_killed_saves_have_left_is_removed_when_it_is_old(tmp_path, monkeypatch):
    old = time.time() - 2 * atomic._ABANDONED
    names = {
        ".instep-0123456789abcdef.tmp": old,
        ".instep-00000000000000ff.tmp": time.time(),  # which may be under way
        ".instep-of-mine.tmp": old,
        "instep-0123456789abcdef.tmp": old,
    }
    for name, modified in names.items():
        (tmp_path / name).write_bytes(b"left")
        os.utime(tmp_path / name, (modified, modified))
    small().save(tmp_path / "checkpoint")
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint", *list(names)[1:]}

    def fails(path):
        raise PermissionError(errno.EACCES, "not to be listed")

    monkeypatch.setattr(os, "listdir", fails)
    small().save(tmp_path / "checkpoint")


@pytest.mark.filterwarnings("error")
@pytest.mark.skipif(sys.platform != "linux", reason="counts the descriptors in /proc")
def test_an_interrupt_leaves_no_descriptor_and_no_temporary_file(tmp_path):
    path = tmp_path / "checkpoint"
    new = small_bytes(path)
    old = small_bytes(path, OLD)
    optimizer, tracing = small(), sys.gettrace()
    descriptors = len(os.listdir("/proc/self/fd"))
    for k in count():
        path.write_bytes(old)
        sys.settrace(interrupt_at(k, atomic.__file__))
        try:
            optimizer.save(path)
        except KeyboardInterrupt:
            sys.settrace(tracing)
            assert path.read_bytes() in (old, new)
        else:
            sys.settrace(tracing)
            break
        assert len(os.listdir("/proc/self/fd")) == descriptors, k
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"], k
    assert path.read_bytes() == new
    assert k > 50
