"""Where there can be no file, or no foreign one be read, the program goes on and is told once why."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import mmstats

NOBODY = 65534

AS_NOBODY = f"""
    import os, sys, warnings, mmstats
    from mmstats import redact, retention, reader, fleet  # while root still may read them
    warnings.simplefilter("always")
    shown = []
    warnings.showwarning = lambda message, *rest: shown.append(str(message))
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
    os.umask(0o077)

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField(labelnames=("path",))
        note = mmstats.StringField()
"""
WORKS = """
    stats = Stats()
    for number in range(100):
        stats.requests.labels(number % 3).inc()
    stats.note = "said"
    assert stats.requests.labels(0).value == 34 and stats.note == "said"
    print(repr(stats.filename))
    print(shown)
"""


def _open_way(path: Path) -> None:
    """Let everybody pass through the directories above `path`, up to the ones that are open anyway."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if mode & 0o005 == 0o005:
            break
        parent.chmod(mode & 0o7777 | 0o055)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("mode", [0o555, 0o755, 0o700, 0o000])
def test_a_directory_that_may_not_be_written_costs_one_warning(run: Callable, home: Path, mode: int) -> None:
    _open_way(home)
    home.chmod(mode)
    out, err = run(AS_NOBODY + WORKS).finish()
    filename, shown = out.splitlines()
    assert filename == "''"
    assert shown.count("mmstats:") == 1
    assert "Permission denied" in shown
    assert err == ""
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("root")
def test_strict_raises_where_the_directory_may_not_be_written(run: Callable, home: Path) -> None:
    _open_way(home)
    home.chmod(0o555)
    program = run(
        AS_NOBODY
        + """
    try:
        Stats(strict=True)
    except mmstats.SegmentError as error:
        print("SegmentError", error)
    """
    )
    out, err = program.finish()
    assert out.startswith("SegmentError no stat file could be made: ")
    assert err == ""


@pytest.mark.usefixtures("root")
def test_a_default_directory_that_is_somebody_elses_is_not_used(run: Callable, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    theirs = temporary / f"mmstats-{NOBODY}"
    theirs.mkdir(mode=0o777)
    theirs.chmod(0o777)
    _open_way(temporary)
    program = run(
        AS_NOBODY
        + f"""
    from mmstats import directory
    directory.SHARED_MEMORY = {str(tmp_path / "nothing")!r}
    """
        + WORKS,
        env={"MMSTATS_PATH": "", "TMPDIR": str(temporary)},
    )
    out, err = program.finish()
    filename, shown = out.splitlines()
    assert filename == "''"
    assert "belongs to uid 0" in shown
    assert shown.count("mmstats:") == 1
    assert err == ""
    assert list(theirs.iterdir()) == []


@pytest.mark.usefixtures("root")
def test_a_file_is_for_its_owner_alone(run: Callable, home: Path) -> None:
    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()

    stats = Stats()
    assert os.stat(stats.filename).st_mode & 0o7777 == 0o600
    _open_way(home)
    home.chmod(0o777)
    program = run(
        AS_NOBODY
        + f"""
    try:
        mmstats.read({stats.filename!r})
    except mmstats.ReadError as error:
        print(type(error).__name__, error)
    found = mmstats.read_all({str(home)!r})
    print(len(found), list(found.problems.values()))
    """
    )
    out, err = program.finish()
    first, second = out.splitlines()
    assert first.startswith("ReadError") and "Permission denied" in first
    assert second.startswith("0 [") and "Permission denied" in second
    assert err == ""


@pytest.mark.usefixtures("root")
def test_a_program_that_drops_its_privileges_goes_on_recording_and_growing(run: Callable, home: Path) -> None:
    _open_way(home)
    program = run(f"""
        import os, mmstats
        class Stats(mmstats.MmStats):
            requests = mmstats.CounterField(labelnames=("path",))
        stats = Stats(service="dropped")
        stats.requests.labels("as root").inc()
        os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
        for number in range(1000):
            stats.requests.labels(number).inc()
        print(stats.filename)
    """)
    path = program.line()
    assert program.finish()[1] == ""
    snapshot = mmstats.read(path)
    assert len(snapshot["requests"]) == 1001
    assert snapshot.process.state == "closed"


def test_disabled_means_no_file_and_no_word(run: Callable, home: Path) -> None:
    program = run(
        """
        import sys, warnings, mmstats
        warnings.simplefilter("error")
        class Stats(mmstats.MmStats):
            requests = mmstats.CounterField(labelnames=("path",))
            sizes = mmstats.HistogramField()
        stats = Stats(strict=True)
        for number in range(5000):
            stats.requests.labels(number % 7).inc()
            stats.sizes.observe(number)
        assert stats.sizes.count == 5000 and stats.filename == ""
        stats.flush()
        stats.remove()
        """,
        env={"MMSTATS_DISABLE": "1"},
    )
    assert program.finish() == ("", "")
    assert list(home.iterdir()) == []


def test_a_directory_that_is_no_directory_costs_one_warning(run: Callable, home: Path) -> None:
    file = home / "file"
    file.write_text("")
    program = run(
        """
        import mmstats
        stats = mmstats.MmStats()
        mmstats.MmStats()
        assert stats.filename == ""
        """,
        env={"MMSTATS_PATH": str(file)},
    )
    _, err = program.finish()
    assert err.count("RuntimeWarning: mmstats:") == 1
    assert "Traceback" not in err
