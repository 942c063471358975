"""A prompt in a live process: run code there, look at its objects and its stacks.

Completion, colours and history come with prompt_toolkit; without it, with --plain and in pipes the
same works line by line.

  mmdebug attach web
  mmdebug attach --via 'kubectl exec -i web-0 --' 1
"""

from __future__ import annotations

import argparse

from mmstats.commands.console import Console
from mmstats.errors import ConfigurationError

from .reaching import add_reaching, add_running, guarded, limit_of, reached

HELP = "open a prompt in a live process"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reaching(parser)
    add_running(parser)
    parser.add_argument("--trust", action="store_true", help="keep the colours that the process prints")
    parser.add_argument("--plain", action="store_true", help="line by line, also on a terminal")


def run(options: argparse.Namespace, console: Console) -> int:
    if options.json:
        raise ConfigurationError("a prompt has no JSON: `mmdebug eval --json` and `mmdebug exec --json` have")
    return guarded(lambda: _interact(options))


def _interact(options: argparse.Namespace) -> int:
    from mmdebug.terminal import interact

    colour = {"always": True, "never": False}.get(options.color)
    with reached(options) as found:
        return interact(
            found,
            plain=options.plain,
            where=options.where,
            trust=options.trust,
            colour=colour,
            **limit_of(options),
        )
