"""List live processes: which can be attached to, and which are recorded.

MANHOLE: `open` (mmdebug attach PID), `armed` (mmdebug arm PID has it listen), `none`.
RECORDER: whether a post-mortem will tell what it was doing. --all also lists the dead.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from mmstats import directory
from mmstats.commands import text
from mmstats.commands.console import Console, identity
from mmstats.reader import seconds

if TYPE_CHECKING:
    from mmdebug.client.discovery import Candidate

HELP = "list live processes, and which can be attached to"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", help="only this service")
    parser.add_argument("--all", action="store_true", help="the dead, too")


def run(options: argparse.Namespace, console: Console) -> int:
    from mmdebug.client.discovery import everyone

    found = [
        candidate
        for candidate in everyone(options.path)
        if (options.all or candidate.state in ("alive", "unknown"))
        and (options.service is None or candidate.service == options.service)
    ]
    if options.json:
        console.json("ps", {"processes": [row(candidate) for candidate in found]})
    elif found:
        owners = [owner(candidate) for candidate in found]
        headers = ["PID", "SERVICE", "STATE", "SINCE", "MANHOLE", "RECORDER"]
        rows = [cells(candidate) for candidate in found]
        if set(owners) - {os.geteuid()}:  # anybody can call a service as another one is called
            headers.append("USER")
            rows = [(*row, _user(uid)) for row, uid in zip(rows, owners, strict=True)]
        console.table(headers, rows, numeric=(0, 3))
    else:
        homes = [options.path] if options.path else directory.readable() or directory.defaults()[:1]
        whose = f" of the service {options.service!r}" if options.service is not None else ""
        life = "" if options.all else "live "
        console.line(f"No {life}process{whose} has left a file in {text.printable(' or '.join(homes))}.")
    return 0


def cells(candidate: Candidate) -> tuple[str, ...]:
    created = _created(candidate)
    return (
        str(candidate.pid),
        identity(candidate.service),
        candidate.state,
        text.age(time.time() - created / 1e9 if created else None),
        candidate.manhole,
        "on" if candidate.recorded else "off",
    )


def row(candidate: Candidate) -> dict[str, Any]:
    """One process, for programs. `since` is seconds since the epoch."""
    return {
        "pid": candidate.pid,
        "service": candidate.service,
        "state": candidate.state,
        "since": seconds(_created(candidate)),
        "manhole": candidate.manhole,
        "recorder": candidate.recorded,
        "sockets": [end.path for end in candidate.sockets] if candidate.manhole == "open" else [],
        "uuid": candidate.snapshot.uuid if candidate.snapshot is not None else None,
        "uid": owner(candidate),
        "path": candidate.path or None,
    }


def _created(candidate: Candidate) -> int | None:
    return candidate.snapshot.created if candidate.snapshot is not None else None


def owner(candidate: Candidate) -> int | None:
    """The uid of whom it belongs to: by the system, and not by what it says of itself. None if that is not known."""
    if candidate.snapshot is None:
        return (candidate.sockets + candidate.arms)[0].uid
    try:
        return os.stat(candidate.path).st_uid
    except OSError:
        return None


def _user(uid: int | None) -> str:
    """A user's name, as far as it has one."""
    if uid is None:
        return "-"
    try:
        import pwd

        return text.printable(pwd.getpwuid(uid).pw_name)
    except (ImportError, KeyError, OverflowError):
        return str(uid)
