"""The two ends of a socket that the program uses, by its descriptor; the descriptor is neither copied nor changed."""

from __future__ import annotations

import socket
import sys
from typing import Any

from ..capture.safetext import plain

_SIZE = 128
#: The system's own functions, as `prepare` finds them.
_libc: Any = None
_ctypes: Any = None


def prepare() -> None:
    """Load what `name_of` needs; without it sockets have numbers only."""
    global _ctypes, _libc
    if _libc is not None:
        return
    try:
        import ctypes

        found = ctypes.PyDLL(None, use_errno=False)  # neither call waits, so there is no need to let others run
        for function in (found.getpeername, found.getsockname):
            function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32))
        _ctypes, _libc = ctypes, found
    except (ImportError, OSError, AttributeError):
        pass  # a Python without ctypes, or a system without these


def name_of(number: int) -> str:
    """``127.0.0.1:5432 from 127.0.0.1:40112``, ``listening at 0.0.0.0:80``, or ``descriptor 7``."""
    if _libc is None:
        return f"descriptor {number}"
    here, there = _asked(_libc.getsockname, number), _asked(_libc.getpeername, number)
    if there:
        return f"{there} from {here}" if here and here != there else there
    return f"listening at {here}" if here else f"descriptor {number}"


def _asked(function: Any, number: int) -> str:
    buffer = _ctypes.create_string_buffer(_SIZE)
    size = _ctypes.c_uint32(_SIZE)
    if function(number, buffer, _ctypes.byref(size)) != 0:
        return ""
    return address(buffer.raw[: min(size.value, _SIZE)])


def address(raw: bytes, bsd: bool = sys.platform == "darwin") -> str:
    """A ``sockaddr`` as text; empty if it has no name. Pure."""
    if len(raw) < 2:
        return ""
    family = raw[1] if bsd else int.from_bytes(raw[:2], sys.byteorder)
    port = int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET and len(raw) >= 8:
        return f"{socket.inet_ntop(socket.AF_INET, raw[4:8])}:{port}"
    if family == socket.AF_INET6 and len(raw) >= 24:
        return f"[{socket.inet_ntop(socket.AF_INET6, raw[8:24])}]:{port}"
    if family == getattr(socket, "AF_UNIX", None):
        name = raw[2:]
        if name[:1] == b"\0" and len(name) > 1:
            name = b"@" + name[1:]  # an abstract one
        path = name.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        return f"unix:{plain(path, 200)}" if path else "a unix socket"
    return ""
