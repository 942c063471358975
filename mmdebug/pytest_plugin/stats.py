"""What the pytest fixture `stats_directory` gives: a directory of stat files of one test, and its reading."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmstats
from mmstats import registry
from mmstats.errors import TargetError

if TYPE_CHECKING:
    import pytest

    from ..postmortem import PostMortem

#: What says otherwise where a process records, or under which name.
_VARIABLES = ("MMSTATS_FILES", "MMSTATS_SERVICE", "MMSTATS_DISABLE")
#: Keys of registries that are set aside: no directory has such a name.
_ASIDE = "\0aside "


class StatsDirectory:
    """The stat files of one test: those of this process, and of the programs that it starts.

    path: the directory
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, service: str | None = None) -> mmstats.Snapshot:
        """The stats as they are now: of `service`, or of this process, or else of the only one that recorded.

        Raises `mmstats.TargetError` if there are none, or several.
        """
        found = list(mmstats.read_all(self.path, service=service).values())
        mine = [snapshot for snapshot in found if snapshot.process.pid == os.getpid()]
        chosen = mine or found
        whose = f" of {service!r}" if service else ""
        if not chosen:
            raise TargetError(f"nothing{whose} was recorded in {self.path}")
        if len(chosen) > 1:
            names = ", ".join(sorted([f"{one.process.service} (pid {one.process.pid})" for one in chosen]))
            raise TargetError(f"{len(chosen)} files{whose}: {names}; give service=, or use mmstats.read_all(path)")
        return chosen[0]

    def value(self, name: str, /, **labels: object) -> Any:
        """One value of what `read` finds. Raises `KeyError` if there is no such name, or no such label set."""
        found: Any = self.read()[name]
        return (found.labels(**labels) if labels else found).value

    def deaths(self, service: str | None = None) -> list[PostMortem]:
        """The processes that ended badly, the one that started last first."""
        from ..postmortem import deaths

        return deaths(self.path, service=service)

    def __repr__(self) -> str:
        return f"<StatsDirectory {self.path}>"


@contextmanager
def fresh_directory(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsDirectory]:
    """Have this process, and those that it starts, record into `path`, and begin anew.

    Models that were made before go on with new values, as they do in a forked child. What other
    directories hold, and the file of `mmdebug.install()`, stay as they are.
    """
    path.mkdir(mode=0o700)
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMSTATS_PATH", str(path))
    with registry._registries_lock:
        earlier = {key: one for key, one in registry._registries.items() if key[0] is None}
        for key, one in earlier.items():
            del registry._registries[key]
            # Under a key that nobody asks for; forks and the end of the process reach it there.
            registry._registries[_aside(one)] = one
    # What this process had recorded so far was of other tests.
    _begin_anew(remove=True)
    try:
        yield StatsDirectory(path)
    finally:
        with registry._registries_lock:
            for key, one in [item for item in registry._registries.items() if item[0][0] is None]:
                del registry._registries[key]
                registry._registries[_aside(one)] = one
            _begin_anew()
            for key, one in earlier.items():
                registry._registries.pop(_aside(one), None)
                registry._registries[key] = one


def _aside(one: registry.Registry) -> tuple[str, None]:
    return f"{_ASIDE}{id(one)}", None


def _begin_anew(*, remove: bool = False) -> None:
    """Close or remove the files of all that was set aside; their next record makes a new one, where it is due then."""
    with registry._registries_lock:
        for key, one in list(registry._registries.items()):
            if not (key[0] or "").startswith(_ASIDE) or _is_recorded(one):
                continue
            if remove and one.filename is not None:
                with suppress(OSError):
                    os.unlink(one.filename)
            one.close()
            one.leave_parent()
            if not one._models:
                del registry._registries[key]


def _is_recorded(one: registry.Registry) -> bool:
    """Whether `mmdebug.install()` records into this one: a death is looked for beside its file."""
    from ..recorder import box

    used = box()
    return used is not None and used.stats is one
