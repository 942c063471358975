"""Evaluate an expression in a live process and print its value.

What it prints goes to the standard output and error here. An exception there is printed as its
traceback, and the exit code is 1. With --json the value itself is printed where JSON can hold it.

  mmdebug eval web 'len(app.queue)'
"""

from __future__ import annotations

import argparse
import ast
import warnings

from mmstats.commands.console import Console
from mmstats.errors import ConfigurationError

from .reaching import add_reaching, add_running, guarded
from .running import run_code

HELP = "evaluate an expression in a live process"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reaching(parser)
    parser.add_argument("expression", metavar="EXPRESSION", help="what to evaluate there")
    add_running(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    if _is_statement(options.expression):
        raise ConfigurationError(f"{options.expression!r} is no expression: `mmdebug exec` runs statements")
    return guarded(lambda: run_code(options, console, options.expression, "eval"))


def _is_statement(text: str) -> bool:
    """Whether this is no expression, and would be right as statements. What is wrong as both the process says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process compiles it, and may warn
        for mode in ("eval", "exec"):
            try:
                ast.parse(text.strip(), mode=mode)
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                continue
            return mode == "exec"
    return False
