"""The client's side of live attach: find who listens, connect, ask. `connect` is all that most need."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..processes import Process


def connect(
    target: str | int,
    *,
    via: Sequence[str] | str | None = None,
    path: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    remote: Sequence[str] | str | None = None,
) -> Process:
    """Connect to the live process that `target` means: see `mmdebug.connect`."""
    from .. import processes

    return processes.connect(target, via=via, path=path, timeout=timeout, remote=remote)
