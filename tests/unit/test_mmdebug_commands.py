"""The commands of mmdebug that look at what a process left, on files of real ones."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Program

from mmdebug import following
from mmdebug.commands import events as events_command
from mmdebug.records import Event
from mmstats import commands

COMMANDS = ("postmortem", "events", "compare", "save")

VICTIM = """
import sys, mmstats, mmdebug
from mmdebug import recorder
from mmstats.registry import registry_for
class S(mmstats.MmStats):
    jobs = mmstats.CounterField(help="Jobs done")
    queue = mmstats.GaugeField(help="Jobs that wait")
stats = S(service="worker")
stats.jobs.inc(3)
stats.queue.set(int(sys.stdin.readline()))
recorder.start(registry_for(), dict, lambda path: None)
mmdebug.event("job.begun", key="k1")
def work(divisor):
    return 1 / divisor
with mmdebug.activity("job 7", user=42):
    try:
        work(0)
    except ZeroDivisionError:
        mmdebug.capture_exception()
    print("ready")
    for line in sys.stdin:
        mmdebug.event(line.strip())
        print("said")
"""


def mmdebug(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = commands.run(commands.build("mmdebug", "", "mmdebug.commands", COMMANDS), list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def victims(run: Callable[..., Program]) -> tuple[Program, list[Program]]:
    """A worker that was killed with a long queue, and three that live."""
    programs = [run(VICTIM) for _ in range(4)]
    for program, queue in zip(programs, (950, 3, 4, 5), strict=True):
        program.say(str(queue))
        assert program.line() == "ready"
    programs[0].kill()
    return programs[0], programs[1:]


Victims = tuple[Program, list[Program]]


def test_the_newest_death_is_told_in_full(victims: Victims, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = mmdebug(capsys, "postmortem")
    assert (status, err) == (0, "")
    assert f"worker, pid {victims[0].pid}: died" in out
    for told in ("job 7 user=42", "job.begun key=k1", "ZeroDivisionError: division by zero", "divisor = 0"):
        assert told in out, told
    assert "Stats that stand out against its 3 siblings" in out and "950" in out


def test_the_last_deaths_are_listed(victims: Victims, capsys: pytest.CaptureFixture[str]) -> None:
    victims[1][0].kill()
    status, out, _ = mmdebug(capsys, "postmortem", "--service", "worker", "--last", "5")
    lines = out.splitlines()
    assert status == 0 and lines[0].split() == ["WHEN", "SERVICE", "PID", "VERDICT"]
    assert {str(victims[0].pid), str(victims[1][0].pid)} <= set(" ".join(lines[1:3]).split())
    status, out, _ = mmdebug(capsys, "postmortem", "--last", "1", "--json")
    assert len(json.loads(out)["deaths"]) == 1
    assert mmdebug(capsys, "postmortem", "--last", "1", "--service", "nobody")[0] == 1
    assert mmdebug(capsys, "postmortem", "worker", "--last", "1")[0] == 1


def test_a_page_is_written_for_its_reader_alone(
    victims: Victims, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "r.html"
    page.write_text("an earlier one")
    assert mmdebug(capsys, "postmortem", str(victims[0].pid), "--html", str(page))[0] == 0
    assert "job 7" in page.read_text() and stat.S_IMODE(page.stat().st_mode) == 0o600
    assert mmdebug(capsys, "postmortem", "--html", "-")[1].startswith("<!DOCTYPE html>")
    status, _, err = mmdebug(capsys, "postmortem", "--html", str(tmp_path / "no" / "r.html"))
    assert status == 1 and "can't be written" in err


def test_json_holds_everything(victims: Victims, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(mmdebug(capsys, "postmortem", "--json")[1])
    assert document["schema"] == 1 and document["command"] == "postmortem"
    assert document["postmortem"]["verdict"]["state"] == "died"


def test_frames_are_walked_over_a_pipe(victims: Victims, home: Path) -> None:
    script = (
        "from mmstats import commands; import sys;"
        f"sys.exit(commands.run(commands.build('mmdebug', '', 'mmdebug.commands', {COMMANDS}), sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "postmortem", str(victims[0].pid), "--pdb"], input="where\np divisor\nup\nq\n",
        capture_output=True, text=True, env=dict(os.environ, MMSTATS_PATH=str(home), PYTHONPATH=str(ROOT)), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""
    assert "ZeroDivisionError: division by zero" in done.stdout and "\n0\n" in done.stdout


def test_a_saved_process_is_judged_as_when_it_was_saved(
    victims: Victims, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead, living = victims
    out = str(tmp_path / "out.tar.gz")
    assert mmdebug(capsys, "save", str(dead.pid), out)[0] == 0
    for program in living:
        program.kill()
    for path in home.iterdir():
        path.unlink()
    status, told, err = mmdebug(capsys, "postmortem", out)
    assert (status, err) == (0, "")
    assert f"worker, pid {dead.pid}: died" in told
    assert "as it was judged when it was saved" in told
    for part in ("job 7 user=42", "divisor = 0", "Stats that stand out against its 3 siblings"):
        assert part in told, part
    assert f"mmdebug events {out}" in told and "mmstats show" not in told
    assert "job.begun" in mmdebug(capsys, "events", out)[1]
    assert "queue" in mmdebug(capsys, "compare", out)[1]
    assert mmdebug(capsys, "save", out, str(tmp_path / "b.tar"))[0] == 1
    assert mmdebug(capsys, "save", "nobody", str(tmp_path / "b.tar"))[0] == 1


def test_save_replaces_nothing_unasked(victims: Victims, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.tar"
    assert mmdebug(capsys, "save", str(victims[0].pid), str(out))[0] == 0
    status, _, err = mmdebug(capsys, "save", str(victims[0].pid), str(out))
    assert status == 1 and "--force" in err
    status, told, _ = mmdebug(capsys, "save", str(victims[0].pid), str(out), "--force", "--json")
    assert status == 0 and len(json.loads(told)["members"]) == 5
    # A live one can be saved, too, and is no dead one afterwards.
    live = str(tmp_path / "live.tar")
    assert mmdebug(capsys, "save", str(victims[1][0].pid), live)[0] == 0
    assert ": alive" in mmdebug(capsys, "postmortem", live)[1]


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tar").write_bytes(b"garbage" * 1000)
    for command in ("postmortem", "events", "compare"):
        status, _, err = mmdebug(capsys, command, str(tmp_path / "x.tar"))
        assert status == 1 and "not a tar" in err


def test_the_one_that_died_is_compared_with_its_siblings(victims: Victims, capsys: pytest.CaptureFixture[str]) -> None:
    dead, living = victims
    status, out, _ = mmdebug(capsys, "compare", str(dead.pid))
    assert status == 0 and "beside 3 others" in out and "queue" in out and "950" in out and "jobs" not in out
    assert "jobs" in mmdebug(capsys, "compare", str(dead.pid), "--all")[1]
    document = json.loads(mmdebug(capsys, "compare", str(dead.pid), str(living[0].pid), "--json")[1])
    assert document["comparison"]["series"][0]["name"] == "queue"
    assert len(document["comparison"]["others"]) == 1


def test_one_without_siblings_can_not_be_compared(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    program = run(VICTIM)
    program.say("1")
    program.line()
    program.kill()
    status, _, err = mmdebug(capsys, "compare", "worker")
    assert status == 1 and "nobody to compare it with" in err


def test_events_are_printed_by_severity_and_number(victims: Victims, capsys: pytest.CaptureFixture[str]) -> None:
    pid = str(victims[0].pid)
    assert "job.begun key=k1" in mmdebug(capsys, "events", pid)[1]
    lines = mmdebug(capsys, "events", pid, "--severity", "error", "--json")[1].splitlines()
    assert [json.loads(line)["event"]["severity"] for line in lines] == ["error"]
    assert len(mmdebug(capsys, "events", pid, "--last", "1")[1].splitlines()) == 1


def test_without_a_recorder_it_says_so(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    program = run("import mmstats\nmmstats.MmStats(service='plain')\nprint()\ninput()")
    program.line()
    status, _, err = mmdebug(capsys, "events", "plain")
    assert status == 1 and "no recorder was on" in err


def test_following_shows_what_comes_and_ends_with_the_process(victims: Victims, home: Path, run: Any) -> None:
    live = victims[1][0]
    source = f"""
    import sys
    from mmstats import commands
    sys.exit(commands.run(commands.build("mmdebug", "", "mmdebug.commands", {COMMANDS}),
                          ["events", "{live.pid}", "--follow", "--json"]))
    """
    follower = run(source)
    assert json.loads(follower.line())["event"]["name"] == "job.begun"
    assert json.loads(follower.line())["event"]["name"] == "exception"
    for name in ("first", "second"):
        live.say(name)
        live.line()
        assert json.loads(follower.line())["event"]["name"] == name
    live.say("last words")
    live.line()
    live.kill()
    out, err = follower.finish()
    assert json.loads(out.splitlines()[-1])["event"]["name"] == "last words" and err == ""


def test_following_ends_quietly_on_ctrl_c(victims: Victims, run: Any) -> None:
    source = f"""
    import sys
    from mmstats import commands
    sys.exit(commands.run(commands.build("mmdebug", "", "mmdebug.commands", {COMMANDS}),
                          ["events", "{victims[1][0].pid}", "--follow"]))
    """
    follower = run(source)
    follower.line()
    os.kill(follower.pid, signal.SIGINT)
    assert follower.finish()[1] == ""


def test_only_what_is_new_is_shown_also_what_appears_late() -> None:
    one, two, three = [Event(time, "info", "event", "x") for time in (1, 2, 3)]
    assert list(following.new_events([one, three], [one, two, three])) == [two]
    assert list(following.new_events([one], [one, one])) == [one], "the same again at the same time is another"
    assert list(following.new_events([one, two], [two])) == []


@pytest.mark.parametrize("time", [0, 1, 1 << 63, 1 << 70])
def test_no_event_can_move_the_cursor_whatever_its_time(time: int) -> None:
    line = events_command.line_of(Event(time, "info", "log", "a\x1b[2J\n", {"k\r": "\x9b"}, "l\x07", "p\u202e"))
    assert line.isprintable()
