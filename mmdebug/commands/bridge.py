"""Carry the protocol between standard input and output and a process of this machine: what --via runs there."""

from __future__ import annotations

import argparse

from mmstats.commands.console import Console

from .reaching import say

#: Run by a client at the other end, and by nobody else.
HELP = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET")


def run(options: argparse.Namespace, console: Console) -> int:
    from mmdebug.client.bridge import bridge

    return bridge(options.target, options.path, say)
