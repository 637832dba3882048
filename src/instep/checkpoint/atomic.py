"""Replace a file whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterable

# Windows has the one flag, the others have the other.
_PRIVATE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_TEMPORARY = re.compile(r"\.instep-[0-9a-f]{16}\.tmp")
_ABANDONED = 3600  # seconds since a temporary file was written to

# What a directory answers that is not to be listed, or on a file system that does not sync directories; PostgreSQL
# goes on at the same.
_NOT_TO_BE_OPENED = (errno.EACCES, errno.EPERM)
_NOT_TO_BE_SYNCED = (errno.EBADF, errno.EINVAL, errno.ENOTSUP)


def replace_file(path: str, chunks: Iterable[bytes | memoryview]) -> None:
    """Make `path` a file of these chunks, on the disk when this returns; until then it is what it was before.

    What the system refuses is an OSError that names `path`, as the caller spelled it.  What a signal handler raises,
    such as a TimeoutError, is passed on as it is.
    """
    try:
        if os.path.basename(path) in ("", os.curdir):  # `realpath` would make a file of the name before it
            raise IsADirectoryError(errno.EISDIR, "the name of a folder, not of a file")
        _replace(path, chunks)
    except OSError as error:
        if not is_of_the_system(error):
            raise
        raise OSError(error.errno, error.strerror, path) from error


def is_of_the_system(error: OSError) -> bool:
    """Whether a call of the system failed with it: a TimeoutError that a signal handler raises has no number."""
    return error.errno is not None


def _replace(path: str, chunks: Iterable[bytes | memoryview]) -> None:
    """By a temporary file.

    The chunks go to a temporary file in the same directory, and that to the disk, before it takes the name: a rename
    may reach the disk ahead of the data.  The rename is on the disk once the directory is.  A symbolic link is
    followed, and a file that is replaced passes its permissions on.  A process that is killed may leave a
    ``.instep-*.tmp`` behind, which means nothing to anybody; a later save in the directory removes it.
    """
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    permissions = _permissions(path)
    _remove_abandoned(directory)
    temporary = os.path.join(directory, f".instep-{secrets.token_hex(8)}.tmp")
    try:
        _write(temporary, permissions, chunks)
        os.replace(temporary, path)
    except BaseException:
        try:  # here, for a handler of signals might raise on the way into a function, before its `try`
            os.unlink(temporary)
        except OSError as error:
            if not is_of_the_system(error):
                raise
        raise
    _sync_directory(directory)


def _remove_abandoned(directory: str) -> None:
    """Remove what killed saves have left there: not what another process or thread may be writing."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        if not is_of_the_system(error):
            raise
        return  # it may be writable and not readable
    for name in filter(_TEMPORARY.fullmatch, names):
        path = os.path.join(directory, name)
        try:
            if time.time() - os.stat(path).st_mtime > _ABANDONED:
                os.unlink(path)
        except OSError as error:
            if not is_of_the_system(error):
                raise


def _write(path: str, permissions: int | None, chunks: Iterable[bytes | memoryview]) -> None:
    opened: list[int] = []
    try:
        # A handler of signals that raises runs between two calls: between `os.open` and an assignment of what it
        # returned, but not within the extension of a list.
        opened += map(os.open, [path], [os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PRIVATE], [0o666])
        if permissions is not None and hasattr(os, "fchmod"):
            os.fchmod(opened[0], permissions)
        for chunk in chunks:
            _write_all(opened[0], chunk)
        _sync(opened[0])
    finally:
        for file in opened:
            os.close(file)


def make_folder(path: str) -> None:
    """Make a folder, unless it is there, and have its name on the disk."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    _sync_directory(os.path.dirname(os.path.realpath(path)))


def _sync_directory(directory: str) -> None:
    """As far as it can be: the file is there by now, and no failure."""
    if not hasattr(os, "O_DIRECTORY"):  # where a directory cannot be opened, the rename has done what can be done
        return
    opened: list[int] = []
    try:
        opened += map(os.open, [directory], [os.O_RDONLY | os.O_DIRECTORY | _PRIVATE])
        _sync(opened[0])
    except OSError as error:
        if error.errno not in (_NOT_TO_BE_SYNCED if opened else _NOT_TO_BE_OPENED):
            raise
    finally:
        for file in opened:
            os.close(file)


def _permissions(path: str) -> int | None:
    """Those of the file that is there; a rename would put a file in the place of anything else, such as a device."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    return stat.S_IMODE(mode)


def _write_all(file: int, chunk: bytes | memoryview) -> None:
    """Write on where a short write stopped; one call takes 2 GiB at most."""
    rest = memoryview(chunk)
    while len(rest):
        written = os.write(file, rest)
        if written == 0:
            raise OSError(errno.EIO, "nothing was written")
        rest = rest[written:]


def _sync(file: int) -> None:
    """Have it on the disk.  On macOS fsync leaves it in the cache of the drive, which is lost with the power."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):  # a file system that has no such call
                raise
    os.fsync(file)
