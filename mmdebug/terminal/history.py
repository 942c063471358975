"""What was typed, kept for the next session: in the user's own state directory, without what looks like a secret."""

from __future__ import annotations

import json
import os
import stat
import tempfile

from mmstats import redact

#: Commands that are kept. Twice as many may be in the file before the older ones go.
KEPT = 2000
#: What is longer was pasted.
LONGEST = 10_000


def default_path(environ: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """``$XDG_STATE_HOME/mmdebug/history``; one that is not absolute if the user has no home."""
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "mmdebug", "history")


class History:
    """A file of mode 0600, a command a line as JSON, which several sessions may append to at a time.

    Without a directory of the user's own nothing is kept: `problem` says so. It is never an error.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.problem = ""
        self.earlier: list[str] = []
        if not os.path.isabs(path):
            self.problem = "no history is kept: there is no home directory"
            return
        try:
            self.earlier = self._load()
        except OSError as error:
            self.problem = f"no history is kept: {path}: {error.strerror or error}"

    def add(self, command: str) -> None:
        """Keep a command, unless it looks as if it had a secret in it."""
        if self.problem or len(command) > LONGEST or redact.text(command) != command:
            return
        try:
            descriptor = self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                # In one write, so that those of several sessions don't mix.
                os.write(descriptor, _line(command))
            finally:
                os.close(descriptor)
        except OSError as error:
            self.problem = f"no history is kept any more: {self._path}: {error.strerror or error}"

    def _load(self) -> list[str]:
        home = os.path.dirname(self._path)
        os.makedirs(home, mode=0o700, exist_ok=True)
        found = os.stat(home)
        if found.st_uid != os.geteuid():
            raise OSError(f"the directory belongs to uid {found.st_uid}")  # as after sudo: their files stay theirs
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.chmod(home, 0o700)
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return []
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            commands = [command for command in map(_command, file) if command]
        if len(commands) > 2 * KEPT:
            try:
                self._shorten(commands[-KEPT:])
            except OSError:
                pass  # it is longer than it need be, and the next session tries again
        return commands[-KEPT:]

    def _open(self, flags: int) -> int:
        descriptor = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            os.close(descriptor)
            raise OSError("it is no file of our own")
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
        return descriptor

    def _shorten(self, commands: list[str]) -> None:
        descriptor, temporary = tempfile.mkstemp(
            prefix=f"{os.path.basename(self._path)}.", dir=os.path.dirname(self._path)
        )
        try:
            with open(descriptor, "wb") as file:
                file.writelines([_line(command) for command in commands])
            os.replace(temporary, self._path)
        except OSError:
            os.unlink(temporary)
            raise


def _line(command: str) -> bytes:
    return json.dumps(command).encode("ascii") + b"\n"


def _command(line: str) -> str:
    """The command of a line; empty if it holds none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return found if type(found) is str else ""
