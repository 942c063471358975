"""Look into Python processes: what a dead one left behind.

`load` reads the file that a process left; ``mmdebug postmortem`` prints what it tells.
"""

from __future__ import annotations

from .postmortem import Ending, PostMortem, deaths, load

__all__ = ["Ending", "PostMortem", "deaths", "load"]
