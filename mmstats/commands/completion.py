"""Print what makes your shell complete commands, options and targets.

bash:  eval "$(mmstats completion bash)"
zsh:   eval "$(mmstats completion zsh)"
fish:  mmstats completion fish | source
"""

from __future__ import annotations

import argparse

from mmstats.errors import ConfigurationError

from .console import Console

HELP = "print your shell's completion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh", "powershell"))


def run(options: argparse.Namespace, console: Console) -> int:
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError as error:
        raise ConfigurationError("completion needs argcomplete: pip install 'mmstats[cli]'") from error
    code = shellcode(["mmstats", "mmdebug"], shell=options.shell)
    if options.json:
        console.json("completion", {"shell": options.shell, "code": code})
    else:
        console.line(code)
    return 0
