"""The listener, on manhole's classes: a native thread that takes clients in, whatever gevent has patched.

Of manhole it keeps the shape (a `Manhole` that is configured and released, its thread, a thread for each
connection) and does everything by itself that would wait, print, or change the process.
"""

from __future__ import annotations

import builtins
import errno
import os
import select
import sys
import time
from importlib.util import find_spec, module_from_spec
from typing import Any

from mmstats.errors import ConfigurationError, MmStatsError

from .. import endpoint, recorder
from ..errors import AttachError
from . import auditing, files, threads
from .session import Session
from .settings import Settings
from .threads import Thread, Wake, close, identity, poller

#: Seconds of rest after a failure, and how many times it is tried to listen again.
REST = 0.1
ATTEMPTS = 20
#: Clients beyond the limit that are told so; more of them are just turned away.
SPARE = 8
#: Seconds that clients have to take what they are told when the process ends.
FAREWELL = 0.2
#: Seconds between two looks at the socket's name. Whoever tidies up takes what lies there for days for left behind.
REFRESH = 3600.0

#: There are no descriptors, or no memory for one.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
#: What manhole would import only to find out whether it is there, or to look for a library by a shell command.
_NOT_FOR_MANHOLE = ("eventlet", "gevent", "ctypes")


def load_manhole() -> Any:
    """The package manhole, which then does not bring gevent into a program that does without it.

    Raises `ConfigurationError`.
    """
    loaded = sys.modules.get("manhole")
    if loaded is not None:
        return loaded
    spec = find_spec("manhole")
    if spec is None or spec.loader is None:
        raise ConfigurationError("mmdebug.manhole needs manhole: pip install 'mmstats[manhole]'")
    module = module_from_spec(spec)
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
    sys.modules["manhole"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["manhole"]
        raise
    return module


def _import(name: str, *arguments: Any, **named: Any) -> Any:
    package = name.partition(".")[0]
    if package in _NOT_FOR_MANHOLE and (package == "ctypes" or package not in sys.modules):
        raise ImportError(f"{name} is not needed")
    return __import__(name, *arguments, **named)


class _Door:
    """What a `manhole.Manhole` does here. Made by `make`.

    sessions: of the clients that are there, by number
    """

    settings: Settings
    # What `manhole.Manhole` has.
    _thread: Any
    configure: Any
    make_listener: Any
    make_connection: Any

    def prepare(self, settings: Settings) -> None:
        self.settings = settings
        self.clients: dict[int, Any] = {}
        self.previous_signal_handlers: dict[int, Any] = {}
        self._count = 0
        self._bound: tuple[str, str, int] | None = None
        self._paused: list[list[Thread]] = []

    @property
    def thread(self) -> Any:
        if self._thread is None:
            self._thread = self.make_listener(self)
        return self._thread

    @thread.setter
    def thread(self, value: Any) -> None:
        self._thread = value

    @property
    def listening(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def get_socket(self) -> Any:
        """A listening socket of this process' own name. Raises `OSError` and `MmStatsError`."""
        recorder.box().open()
        path = files.stats_path()
        if path is None:
            raise AttachError("there is no stat file beside which clients could look for it")
        uuid = files.uuid_of(path)[:8]
        directory, descriptor = endpoint.make_directory(os.path.dirname(path))
        try:
            endpoint.sweep(descriptor, directory)
            for attempt in range(endpoint.ATTEMPTS):
                name = endpoint.name_for(os.getpid(), uuid, endpoint.SOCKET, attempt)
                try:
                    made = endpoint.bind(descriptor, name, directory)
                except OSError as error:
                    if error.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    continue
                self._bound = (directory, name, os.getpid())
                return made
        finally:
            os.close(descriptor)
        raise AttachError(f"{os.path.join(directory, name)} and other names can't be used: remove what is there")

    @property
    def uds_name(self) -> str:
        return os.path.join(*self._bound[:2]) if self._bound is not None else ""

    def refresh(self) -> None:
        """Have the socket look used. Raises `OSError` or `AttachError` if it is not there, or not ours any more."""
        bound = self._bound
        if bound is None:
            return
        descriptor = endpoint.open_directory(bound[0], os.geteuid())
        try:
            os.utime(bound[1], dir_fd=descriptor, follow_symlinks=False)
        finally:
            os.close(descriptor)

    def remove_manhole_uds(self) -> str:
        """Remove the socket, if it is this process'."""
        name = self.uds_name
        bound, self._bound = self._bound, None
        if bound is not None and bound[2] == os.getpid():
            try:
                descriptor = endpoint.open_directory(bound[0], os.geteuid())
            except AttachError:
                return name  # it has gone, or this process has become another user's
            endpoint.unlink(descriptor, bound[1])
            os.close(descriptor)
        return name

    def admit(self, client: Any) -> None:
        """A client has connected: give it a thread of its own. Called by the listener."""
        self._count += 1
        limit = self.settings.max_clients
        refusal = "" if len(self.clients) < limit else f"there are {limit} clients already"
        if len(self.clients) >= limit + SPARE:
            client.close()
            return
        connection = self.make_connection(client, self, self._count, refusal)
        self.clients[self._count] = connection
        try:
            connection.start()
        except RuntimeError:  # there can be no more threads
            self.clients.pop(self._count, None)
            client.close()

    # Forks, and the end.

    def pause(self) -> None:
        """Before a fork: Python 3.12 warns of it while there are several threads."""
        paused = self._threads()
        self._paused.append(paused)
        threads.pause(paused)

    def resume(self) -> None:
        """After it, in the parent. Raises `RuntimeError` if there can be no more threads."""
        threads.resume(self._paused.pop() if self._paused else [])

    def _threads(self) -> list[Any]:
        listener = [self._thread.native] if self._thread is not None else []
        return listener + [connection.native for connection in list(self.clients.values())]

    def forked(self) -> None:
        """In a child: nothing of the parent's goes on."""
        for connection in self.clients.values():
            connection.forked()
        self.clients = {}
        self._paused = []
        self._bound = None
        listener, self._thread = self._thread, None
        if listener is not None:
            listener.forked()

    def close(self) -> None:
        """The end: of the listener, of all clients, and of the socket."""
        listener, self._thread = self._thread, None
        if listener is not None:
            listener.stop()
            listener.release()
        self.remove_manhole_uds()
        connections = list(self.clients.values())
        for connection in connections:
            connection.end("the manhole was closed")
        deadline = time.monotonic() + FAREWELL
        for connection in connections:
            connection.native.join(max(deadline - time.monotonic(), 0))


class _Native:
    """A thread of `threading`'s by its shape alone: its ways to start take locks that gevent patches."""

    native: Thread
    name = "mmdebug.manhole"
    daemon = True

    @property
    def ident(self) -> int | None:
        return self.native.ident or None

    def is_alive(self) -> bool:
        return self.native.alive

    def join(self, timeout: float | None = None) -> None:
        """Nobody waits for it: there are several at once."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class _Listener(_Native):
    """What a `manhole.ManholeThread` does here: waits for clients, and looks at its socket once in an hour."""

    def __init__(self, door: _Door, delay: float = 0.0) -> None:
        # Not manhole's, which makes events and locks of `threading`.
        self._door = door
        self.bind_delay = delay
        self._socket: Any = None
        self._file: tuple[int, int] | None = None
        self._wake = Wake()
        self._reserve: tuple[int, tuple[int, int]] | None = None
        self.native = Thread(self.run, self._wake)

    def open(self) -> None:
        """Listen, though nobody is taken in yet. Raises `OSError` and `MmStatsError`."""
        self._socket = self._door.get_socket()
        self._socket.setblocking(False)
        self._file = identity(self._socket.fileno())
        self._hold_reserve()

    def start(self) -> None:
        self.native.start()

    def stop(self) -> None:
        self.native.stop()

    def clone(self, **options: Any) -> Any:
        return type(self)(self._door, options.get("bind_delay") or 0.0)

    def run(self) -> None:
        failures = 0
        while not self.native.leaves():
            try:
                if self._socket is None:
                    if self.bind_delay:
                        delay, self.bind_delay = self.bind_delay, 0.0
                        if self._rest(delay):
                            self.bind_delay = delay
                            continue
                    self.open()
                self._turn()
                failures = 0
            except (OSError, MmStatsError, RuntimeError) as error:
                failures += 1
                if failures > ATTEMPTS:
                    auditing.failed(error)
                    return
                self._forget()
                self._rest(REST * failures)

    def _rest(self, seconds: float) -> bool:
        """Wait; whether something called meanwhile."""
        poll = poller()
        poll.register(self._wake.fileno(), select.POLLIN)
        called = bool(poll.poll(seconds * 1000))
        if called and not self._wake.clear():
            self._renew_wake()
        return called

    def _turn(self) -> None:
        """Wait for a client, or to be called. Raises `OSError` if the socket is not ours any more."""
        poll = poller()
        poll.register(self._wake.fileno(), select.POLLIN)
        poll.register(self._socket.fileno(), select.POLLIN)
        happenings = poll.poll(REFRESH * 1000)
        if not happenings:
            self._door.refresh()
        for descriptor, happened in happenings:
            if descriptor == self._wake.fileno():
                if not self._wake.clear():
                    self._renew_wake()
            elif happened & select.POLLIN and identity(descriptor) == self._file:
                self._accept()
            else:
                # A program that becomes a daemon closes what it does not know, and its own files get the numbers.
                raise OSError(errno.EBADF, "somebody closed the socket")

    def _renew_wake(self) -> None:
        self._wake = Wake()
        self.native.wake = self._wake

    def _accept(self) -> None:
        try:
            # Not accept(): that makes a socket of the class that gevent has put there.
            descriptor, _ = self._socket._accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._turn_away()
            return
        self._door.admit(endpoint.new_socket(descriptor))

    def _turn_away(self) -> None:
        """Without a descriptor for it, a client would be announced again and again: the reserved one takes it."""
        if self._reserve is not None:
            self._give_reserve()
            try:
                descriptor, _ = self._socket._accept()
                os.close(descriptor)
            except OSError:
                pass
        self._hold_reserve()
        self._rest(REST)

    def _hold_reserve(self) -> None:
        if self._reserve is None:
            try:
                self._reserve = self._wake.spare()
            except OSError:
                pass

    def _give_reserve(self) -> None:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            close(*reserve)

    def _forget(self) -> None:
        """Let go of a socket; one that is not ours any more is left alone."""
        found, self._socket = self._socket, None
        if found is not None and self._file is not None:
            close(found.detach(), self._file)

    def release(self) -> None:
        """Let go of all descriptors."""
        self._forget()
        self._wake.close()
        self._give_reserve()

    def forked(self) -> None:
        """In a child: close our copies of its descriptors."""
        self.release()


class _Connection(_Native):
    """What a `manhole.ManholeConnectionThread` does here: serves one client."""

    def __init__(self, client: Any, door: _Door, number: int, refusal: str) -> None:
        # Not manhole's, as above.
        self.client = client
        self._door = door
        self._number = number
        self._refusal = refusal
        self._session: Session | None = None
        self._end = ""
        self.native = Thread(self.run, self._call)

    def start(self) -> None:
        self.native.start()

    def run(self) -> None:
        try:
            if self._session is None:
                self._session = self._admit()
                if self._end:
                    self._session.end(self._end)
            if self._session is not None and not self._session.serve(self.native.leaves):
                return
        except Exception as error:  # ours, such as no descriptors for its pipe
            auditing.failed(error)
        if self._session is not None:
            self._session.close()
        self.client.close()
        self._door.clients.pop(self._number, None)
        # What the session ran may hold on to it: not to us.
        self._session = None
        self.native.let_go()

    def _admit(self) -> Session:
        """The session, once it is known whose it is."""
        credentials = endpoint.peer(self.client)
        me = os.geteuid()
        refusal = self._refusal
        if credentials.uid not in (0, me):
            refusal = f"clients of uid {me} and of root are taken, and not of {credentials.uid}"
        return Session(self._number, self.client, credentials, self._door.settings, refusal)

    def _call(self) -> None:
        if self._session is not None:
            self._session.wake()

    def end(self, why: str) -> None:
        self._end = why
        session = self._session
        if session is not None:
            session.end(why)

    def forked(self) -> None:
        if self._session is not None:
            self._session.forked()
        self.client.close()


def make(settings: Settings) -> Any:
    """A `manhole.Manhole` of our own, beside the one that a program may have installed. Raises `ConfigurationError`."""
    manhole = load_manhole()
    listener = type("Listener", (_Listener, manhole.ManholeThread), {})
    connection = type("Connection", (_Connection, manhole.ManholeConnectionThread), {})
    door: Any = type("Door", (_Door, manhole.Manhole), {"make_listener": listener, "make_connection": connection})()
    door.prepare(settings)
    door.configure(thread=False, patch_fork=False, sigmask=None, daemon_connection=True, redirect_stderr=False)
    return door
