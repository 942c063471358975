"""What every Python process under ``mmdebug run`` imports at its start: it opts the process in.

This directory is at the front of PYTHONPATH there. A `sitecustomize` that is hidden by this one
runs as if it were not. Nothing that goes wrong here may keep the program from running.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # without `typing`, which takes a while to import
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(_HERE))


class _Finder:
    """Finds our packages, and nothing else, for a Python that they are not installed for."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in ("mmdebug", "mmstats"):
            return None
        from importlib.machinery import PathFinder

        return PathFinder.find_spec(name, [_ROOT])


def _run_hidden() -> None:
    """Run the `sitecustomize` that stands behind this one, as the module that it would have been."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    # By the file and not by the name: the same directory may be there twice, or through a link.
    here = os.path.realpath(_HERE)
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.realpath(path) != here])
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _tool() -> bool:
    """Whether this process is one of our own command lines, such as another ``mmdebug run``."""
    arguments = iter(getattr(sys, "orig_argv", [])[1:])
    for argument in arguments:
        if argument in ("-X", "-W"):
            next(arguments, None)
        elif argument == "-m":
            return next(arguments, None) in ("mmdebug", "mmstats")
        elif argument[:1] != "-":
            return os.path.basename(argument) in ("mmdebug", "mmstats")
        elif argument.startswith("-c"):
            break
    return False


def _opt_in() -> None:
    if os.environ.get("MMDEBUG_DISABLE", "") not in ("", "0") or sys.version_info < (3, 11) or _tool():
        return
    try:
        sys.meta_path.append(_Finder)
        from importlib import import_module

        import_module("mmdebug.children").watch()
        import_module("mmdebug").install()
    except Exception as error:
        _say(f"nothing is recorded of this process: {type(error).__name__}: {error}")
        return
    if os.environ.get("MMDEBUG_MANHOLE", "") not in ("", "0"):
        try:
            import_module("mmdebug.manhole").from_environment()
        except Exception as error:
            _say(f"nobody can attach to this process: {error}")


def _say(message: str) -> None:
    try:
        sys.stderr.write(f"mmdebug: {message}\n")
    except Exception:
        pass  # there is nowhere to say it


try:
    _run_hidden()
finally:
    _opt_in()
