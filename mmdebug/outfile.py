"""A file that a command writes: whole or not at all, and for nobody's eyes but the user's."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from mmstats.errors import MmStatsError


class OutputError(MmStatsError):
    """A file could not be written, or it is there already."""


@contextmanager
def private_file(path: str, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file of mode 0600 that is at `path` once the block has ended well, and nowhere if it has not.

    force: replace what is there. Raises `OutputError` if something is, or if it can't be written.
    """
    if not force and os.path.lexists(path):
        raise OutputError(f"{path} is there already: name another file, or give --force")
    home, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(home, f".{name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from error
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        _put(temporary, path, force)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass


def _put(temporary: str, path: str, force: bool) -> None:
    if force:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike a rename it fails if somebody was faster
    except FileExistsError as error:
        raise OutputError(f"{path} is there already: name another file, or give --force") from error
    except OSError:
        os.replace(temporary, path)  # a file system without hard links
