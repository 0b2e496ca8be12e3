"""Atomic file writes: after a kill or a power cut a file holds its old content or its new content, never a mixture."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class AtomicFile:
    """A binary file that appears at `path` when it is committed, and is not seen there before.

    private: only its owner may read it, from the first byte on. exclusive: never replace a file that exists; of several
    processes that write the same path at once, one wins. Use as a context manager, which commits unless an exception
    is raised, or call `commit` or `discard`. Errors of the disk are raised as OSError.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory, AtomicFile(Path(directory, "key.json")) as stream:
    ...     _ = stream.write(b"{}")
    """

    def __init__(self, path: Path, *, private: bool = True, exclusive: bool = False) -> None:
        self.path = path
        self._exclusive = exclusive
        # A random name in the same directory: writers never meet in one temporary file, a rename stays within one
        # file system, and nobody can have put a link to another file in its place.
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        # 0o666 is what open() asks for: the umask of the process decides. A chmod afterwards would be too late.
        mode = 0o600 if private else 0o666
        self.stream: BinaryIO = open(  # noqa: SIM115
            self._temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)
        )

    def commit(self) -> None:
        """Make the content durable and put it in place. Raises FileExistsError where `exclusive` and `path` exists."""
        try:
            self.stream.flush()
            os.fsync(self.stream.fileno())  # before the rename, or a power cut may leave a name without content
            self.stream.close()
            if self._exclusive:
                os.link(self._temporary, self.path)  # unlike a rename, it fails where the name is taken
            else:
                self._temporary.replace(self.path)
            flush_to_disk(self.path.parent)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the temporary file and leave `path` as it is. Does nothing after `commit`."""
        with suppress(OSError):  # on a full disk closing may fail too
            self.stream.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> BinaryIO:
        return self.stream

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()


def write_atomically(path: Path, content: bytes | str, *, private: bool = True, exclusive: bool = False) -> None:
    """Write a whole file, text as UTF-8, as `AtomicFile` does.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     write_atomically(Path(directory, "key"), "secret")
    ...     Path(directory, "key").read_text(), oct(Path(directory, "key").stat().st_mode & 0o777)
    ('secret', '0o600')
    """
    with AtomicFile(path, private=private, exclusive=exclusive) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def remove_unfinished(path: Path) -> None:
    """Remove the temporary files that killed processes left beside `path`.

    Only for a caller that holds a lock: the temporary file of another process that still writes would go too.
    """
    prefix = f".{path.name}."
    for file in path.parent.iterdir():  # no glob: a name may hold [ or *
        if file.name.startswith(prefix) and file.name.endswith(".part"):
            file.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the list of names of a directory, is on disk."""
    if os.name != "posix" and path.is_dir():  # Windows opens no directory
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
