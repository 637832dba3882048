"""Replace a file whole, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress

# Windows has the one flag, the others have the other.
_PRIVATE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)


def replace_file(path: str, chunks: Iterable[bytes | memoryview]) -> None:
    """Make `path` a file of these chunks, on the disk when this returns; until then it is what it was before.

    What the system refuses is an OSError that names `path`, as the caller spelled it.
    """
    try:
        _replace(path, chunks)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _replace(path: str, chunks: Iterable[bytes | memoryview]) -> None:
    """By a temporary file.

    The chunks go to a temporary file in the same directory, and that to the disk, before it takes the name: a rename
    may reach the disk ahead of the data.  The rename is on the disk once the directory is.  A symbolic link is
    followed, and a file that is replaced passes its permissions on.  A process that is killed may leave a
    ``.instep-*.tmp`` behind, which means nothing to anybody.
    """
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    permissions = _permissions(path)
    temporary = os.path.join(directory, f".instep-{secrets.token_hex(8)}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PRIVATE, 0o666)
        try:
            if permissions is not None and hasattr(os, "fchmod"):
                os.fchmod(file, permissions)
            for chunk in chunks:
                _write_all(file, chunk)
            _sync(file)
        finally:
            os.close(file)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(directory)


def make_folder(path: str) -> None:
    """Make a folder, unless it is there, and have its name on the disk."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    _sync_directory(os.path.dirname(os.path.realpath(path)))


def _sync_directory(directory: str) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # where a directory cannot be opened, the rename has done what can be done
        return
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | _PRIVATE)
    try:
        _sync(file)
    finally:
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
