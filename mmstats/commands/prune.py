"""Delete files of dead processes: beyond a number, a sum of bytes or an age, for each service.

Never deletes the file of a live process, nor one whose process may be alive for all we know.
Without options it leaves the newest 5 of each service, as a new process does at its start.
"""

from __future__ import annotations

import argparse
import re

from mmstats import fleet, retention

from . import text
from .console import Console

HELP = "delete files of dead processes"

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}


def _bytes(value: str) -> int:
    found = re.fullmatch(r"(\d+)([kmg]?)(i?b)?", value.lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{value!r} is no size: give bytes, or 100k, 20M, 1G")
    return int(found[1]) * _UNITS[found[2]]


def _seconds(value: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value.lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{value!r} is no span of time: give seconds, or 30m, 12h, 7d")
    return float(found[1]) * _SPANS[found[2]]


def _count(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is no number of files")
    return int(value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", help="only this service")
    parser.add_argument("--keep", type=_count, metavar="N", help="leave the newest N of each service")
    parser.add_argument("--max-bytes", type=_bytes, metavar="SIZE", help="leave at most this much of each service")
    parser.add_argument("--max-age", type=_seconds, metavar="SPAN", help="delete what is older than this, such as 7d")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")


def run(options: argparse.Namespace, console: Console) -> int:
    keep = options.keep
    if keep is None and options.max_bytes is None and options.max_age is None:
        keep = retention.KEEP
    services: dict[str, list[retention.Dead]] = {}
    for file in retention.dead_files(fleet.files(options.path)):
        service = retention.service_of(file.path.rpartition("/")[2]) or ""
        if options.service in (None, service):
            services.setdefault(service, []).append(file)
    going = [
        file
        for dead in services.values()
        for file in retention.surplus(dead, keep=keep, max_bytes=options.max_bytes, max_age=options.max_age)
    ]
    gone = going if options.dry_run else retention.remove(going)
    failed = [file for file in going if file not in gone]
    if options.json:
        files = [{"path": file.path, "bytes": file.size} for file in gone]
        console.json("prune", {"dry_run": options.dry_run, "deleted": files, "failed": [f.path for f in failed]})
        return 1 if failed else 0
    for file in gone:
        console.line(f"{'would delete' if options.dry_run else 'deleted'} {text.printable(file.path)}")
    for file in failed:
        console.line(f"could not delete {text.printable(file.path)}")
    freed = text.size(sum(file.size for file in gone))
    dead = sum(len(files) for files in services.values())
    verb = "would go" if options.dry_run else "deleted"
    console.line(f"{len(gone)} of {dead} files of dead processes {verb}, {freed}.")
    return 1 if failed else 0
