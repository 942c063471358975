"""A way into this process for its own user: ``mmdebug attach``, notebooks and scripts come in by it.

    import mmdebug.manhole
    mmdebug.manhole.install()

Nothing listens before that. Who comes in can do whatever the program can, so the sockets lie in a
directory of this user's alone, and who did what is noted in the black box before it is done.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from mmstats.errors import ConfigurationError

from .settings import Settings

__all__ = ["Settings", "install", "installed", "uninstall"]

#: Switches a manhole on at the start of each Python below ``mmdebug run --manhole``: ``1`` or ``read-only``.
VARIABLE = "MMDEBUG_MANHOLE"

_lock = threading.RLock()
_manhole: Any = None
_by_environment = False


def install(
    *,
    service: str | None = None,
    path: str | None = None,
    namespace: Mapping[str, Any] | None = None,
    read_only: bool = False,
    authorize: Callable[[Any], Any] | None = None,
    timeout: float | None = 30.0,
    idle_timeout: float | None = 1800.0,
    max_clients: int = 16,
    max_output: int = 1 << 20,
    max_result: int = 1 << 16,
    where: str = "auto",
    signal: int | str | None = None,
) -> bool:
    """Opt in: let clients of this user, and root, attach to this process. See `Settings` for the options.

    With or without ``mmdebug.install()``, before it or after it. Forked children listen as well, at
    sockets of their own. A second call changes nothing, unless the first one was the environment's.

    Raises `ConfigurationError` if an option makes no sense, the signal can't be had, or manhole is not
    installed. False if `MMDEBUG_DISABLE` is set, in a sub-interpreter, or if it could not be done: then a
    warning says why.
    """
    settings = Settings(
        service=service,
        path=path,
        namespace=dict(namespace) if namespace is not None else {},
        read_only=read_only,
        authorize=authorize,
        timeout=timeout,
        idle_timeout=idle_timeout,
        max_clients=max_clients,
        max_output=max_output,
        max_result=max_result,
        where=where,
        signal=signal,
    )
    return _install(settings, False)


def installed() -> bool:
    """Whether this process lets clients in, or would after its signal."""
    return _manhole is not None


def uninstall() -> None:
    """Send all clients away, and let no more in."""
    global _manhole
    with _lock:
        found, _manhole = _manhole, None
        if found is not None:
            found.close()


def from_environment() -> bool:
    """As ``mmdebug run --manhole`` asks for; the program's own `install` may then still set its options."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted in ("", "0"):
        return False
    return _install(Settings(read_only=wanted != "1"), True)


def _install(settings: Settings, by_environment: bool) -> bool:
    global _manhole, _by_environment
    from .. import installation, native

    if installation.disabled() or not native.in_main_interpreter():
        return False
    with _lock:
        if _manhole is not None:
            if _by_environment and not by_environment:
                _by_environment = False
                _manhole.adopt(settings)
            return True
        try:
            from .house import House

            _manhole = House(settings)
        except ConfigurationError:
            raise
        except Exception as error:  # whatever it is: the program is worth more than a way into it
            installation.say(f"mmdebug lets no clients in: {error}", 4)
            return False
        _by_environment = by_environment
    return True
