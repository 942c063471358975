"""IPython and Jupyter: ``%load_ext mmdebug`` records this kernel, tells of one that died, and gives magics.

`load` and `unload` are what IPython calls; `table` shows records as a table. IPython itself is
imported by no module here before it is running anyway.
"""

from __future__ import annotations

from typing import Any

from .display import Table, table

__all__ = ["Table", "load", "table", "unload"]

#: The attribute of a shell that holds what `load` set up in it.
_ATTRIBUTE = "_mmdebug_extension"


def load(shell: Any) -> None:
    """Record this process and its cells, tell of a predecessor's death, and give `shell` the magics."""
    if getattr(shell, _ATTRIBUTE, None) is None:
        from .extension import Extension

        setattr(shell, _ATTRIBUTE, Extension(shell))


def unload(shell: Any) -> None:
    """Take away the magics and record no more cells. What `mmdebug.install` records goes on."""
    extension = getattr(shell, _ATTRIBUTE, None)
    if extension is not None:
        setattr(shell, _ATTRIBUTE, None)
        extension.remove()
