"""Put everything about one process into one tar, to keep or to send; `mmdebug postmortem out.tar` opens it.

It holds the stats, the recorder's events, activities and exceptions, the fault text, and the stats
of up to 20 siblings. It is compressed if its name ends in .gz or .tgz.
"""

from __future__ import annotations

import argparse

from mmdebug.bundle import is_bundle, save
from mmdebug.postmortem import choose
from mmstats.commands import text
from mmstats.commands.console import Console
from mmstats.errors import ConfigurationError

from .opening import add_target

HELP = "put everything about one process into one file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser, "target", "a pid, service, uuid, file name or path")
    parser.add_argument("out", metavar="OUT", help="the tar to write: out.tar, out.tar.gz or out.tgz")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")


def run(options: argparse.Namespace, console: Console) -> int:
    if is_bundle(options.target):
        raise ConfigurationError(f"{options.target} is a tar already: copy it")
    found = choose(options.target, options.path)
    manifest = save(found, options.out, force=options.force)
    if options.json:
        members = [{"name": m.name, "path": m.path, "bytes": m.size, "notes": list(m.notes)} for m in manifest.members]
        console.json("save", {"out": options.out, "target": manifest.target, "members": members})
        return 0
    for member in manifest.members:
        console.line(f"  {member.name}  {text.size(member.size)}")
    for note in manifest.notes:
        console.line(f"note: {text.printable(note)}")
    console.line(
        f"{len(manifest.members)} files are in {text.printable(options.out)}. It holds what the process recorded:"
        " give it only to people who may see that."
    )
    return 0
