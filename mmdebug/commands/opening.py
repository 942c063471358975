"""A target of a command as its post-mortem: a process' files where they are, or a tar of ``mmdebug save``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mmdebug.bundle import is_bundle, opened
from mmdebug.manifest import Manifest
from mmdebug.postmortem import PostMortem, choose, load
from mmstats.commands.options import complete_targets

A_TARGET = "a pid, service, uuid, file name, path, or a tar of `mmdebug save`"


def add_target(parser: argparse.ArgumentParser, name: str, what: str = A_TARGET) -> None:
    """Add the argument `name`: one target, completed by the shell."""
    argument = parser.add_argument(name, metavar="TARGET", help=what)
    argument.completer = complete_targets  # type: ignore[attr-defined]  # where argcomplete looks for it


@contextmanager
def chosen(
    target: str | None, path: str | None = None, *, service: str | None = None
) -> Iterator[tuple[PostMortem, Manifest | None]]:
    """The post-mortem of `target`, and of a tar its manifest; the tar's files are gone at the end of the block.

    What was known when the tar was made holds: a copy's writer can't be judged, nor its machine be asked.
    """
    if target is None or not is_bundle(target):
        yield choose(target, path, service=service), None
        return
    with opened(target) as bundle:
        found = load(bundle.path, life=bundle.life)
        lives = bundle.lives
        siblings = tuple(
            [other.judged(lives[other.path]) if other.path in lives else other for other in found.siblings]
        )
        yield replace(found, path=target, verdict=bundle.manifest.verdict, siblings=siblings), bundle.manifest
