"""Run statements in a live process: of a file, of the standard input, or as they are given.

What they print goes to the standard output and error here. An exception there is printed as its
traceback, and the exit code is 1.

  mmdebug exec web -f script.py
  mmdebug exec web 'import gc; print(gc.collect())'
"""

from __future__ import annotations

import argparse
import io
import sys
import tokenize

from mmdebug.protocol import MAX_CODE
from mmstats.commands.console import Console
from mmstats.errors import ConfigurationError, ReadError

from .reaching import add_reaching, add_running, guarded
from .running import run_code

HELP = "run statements in a live process"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reaching(parser)
    code = parser.add_argument("code", metavar="[CODE]", help="what to run there")
    # Not by nargs="?": argparse would take it as left out where an option comes between TARGET and CODE.
    code.required = False
    parser.add_argument("-f", "--file", metavar="FILE", help="run this file there; - for the standard input")
    add_running(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    if (options.code is None) == (options.file is None):
        raise ConfigurationError("what to run? Give CODE, or a file with -f, and not both")
    code = options.code if options.code is not None else source_of(options.file)
    return guarded(lambda: run_code(options, console, code, "exec"))


def source_of(path: str) -> str:
    """The text of a file of Python, in the encoding that it says; of the standard input for ``-``."""
    try:
        if path == "-":
            source = sys.stdin.read(MAX_CODE + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(4 * MAX_CODE)
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            source = io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except (OSError, SyntaxError, UnicodeError, LookupError) as error:
        raise ReadError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(source) > MAX_CODE:
        raise ReadError(f"{path} has more than the {MAX_CODE:,} characters that a command may have")
    return source
