"""The command lines as their users run them: in processes of their own, on real files."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Program, wait_for

import mmstats

RECORDER = """
import sys, mmstats
class WebStats(mmstats.MmStats):
    requests = mmstats.CounterField(help="Requests served", labelnames=("method", "status"))
    latency = mmstats.HistogramField(unit="seconds", help="Time to answer")
    in_flight = mmstats.GaugeField(help="Requests being served")
    route = mmstats.StringField(size=40)
stats = WebStats(service=sys.argv[1] if len(sys.argv) > 1 else "web")
stats.requests.labels("GET", 200).inc(5)
stats.requests.labels("GET", 500).inc(2)
stats.latency.observe(0.03)
stats.in_flight.set(1)
stats.route = "/h\\u00e9llo \\x1b[31m"
print("ready")
for line in sys.stdin:
    stats.requests.labels("GET", 200).inc(10)
    print("done")
"""


def call(
    *arguments: str,
    home: Path,
    status: int | None = 0,
    env: dict[str, str] | None = None,
    blocked: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ...``; `blocked` modules can't be imported there."""
    environment = dict(os.environ, MMSTATS_PATH=str(home), PYTHONPATH=str(ROOT), **(env or {}))
    if blocked:
        code = (
            f"import sys, runpy; sys.modules.update(dict.fromkeys({blocked!r}));"
            f"sys.argv = {list(arguments)!r}; runpy.run_module({arguments[0]!r}, run_name='__main__')"
        )
        command = [sys.executable, "-c", code]
    else:
        command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert status is None or done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def report(*arguments: str, home: Path, **keywords: Any) -> Any:
    done = call(*arguments, "--json", home=home, **keywords)
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    return document


@pytest.fixture
def living(run: Callable[..., Program]) -> Program:
    program = run(RECORDER)
    assert program.line() == "ready"
    return program


@pytest.fixture
def dead(run: Callable[..., Program]) -> Program:
    program = run(RECORDER)
    assert program.line() == "ready"
    program.kill()
    return program


def test_ls_tells_the_living_the_dead_and_the_closed(
    living: Program, dead: Program, run: Callable[..., Program], home: Path
) -> None:
    closed = run(RECORDER)
    closed.line()
    closed.finish()
    states = {row["pid"]: row["state"] for row in report("mmstats", "ls", home=home)["processes"]}
    assert states == {living.pid: "alive", dead.pid: "died", closed.pid: "closed"}
    shown = call("mmstats", "ls", home=home).stdout
    assert [line.split()[2] for line in shown.splitlines()[1:]].count("alive") == 1
    only = report("mmstats", "ls", "--state", "died", home=home)["processes"]
    assert [row["pid"] for row in only] == [dead.pid]


def test_ls_of_nothing_says_where_it_looked(home: Path) -> None:
    assert str(home) in call("mmstats", "ls", home=home).stdout
    assert report("mmstats", "ls", home=home)["processes"] == []


def test_show_has_labels_units_and_quantiles_and_escapes_what_files_hold(living: Program, home: Path) -> None:
    shown = call("mmstats", "show", str(living.pid), home=home, env={"PYTHONIOENCODING": "utf-8"}).stdout
    assert "method=GET,status=200" in shown
    assert "p99" in shown
    assert "Time to answer" in shown
    assert "\x1b" not in shown
    assert "/héllo \\x1b[31m" in shown
    values = report("mmstats", "show", str(living.pid), home=home)["processes"][0]["values"]
    assert values["latency"]["unit"] == "seconds"
    assert {tuple(s["labels"].items()): s["value"] for s in values["requests"]["series"]} == {
        (("method", "GET"), ("status", "200")): 5,
        (("method", "GET"), ("status", "500")): 2,
    }


def test_show_is_safe_in_a_pipe_that_is_not_utf8(living: Program, home: Path) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    shown = call("mmstats", "show", "web", home=home, env=ascii_only).stdout
    assert shown.isascii()
    assert "/h\\xe9llo" in shown


def test_show_merges_processes(living: Program, dead: Program, home: Path) -> None:
    merged = report("mmstats", "show", "--merge", home=home)["merged"]
    assert merged["processes"] == 2
    assert merged["values"]["requests"]["series"][0]["value"] == 10
    assert merged["values"]["in_flight"]["value"] == 1, "a dead process serves nothing"
    assert "2 processes merged" in call("mmstats", "show", "web", "--merge", home=home).stdout


def test_a_target_is_a_pid_a_service_a_uuid_a_name_or_a_path(living: Program, home: Path) -> None:
    snapshot = next(iter(mmstats.read_all(home).values()))
    for target in (str(living.pid), "web", snapshot.uuid, snapshot.uuid[:8], snapshot.label, snapshot.path):
        found = report("mmstats", "show", target, home=home)["processes"]
        assert [process["uuid"] for process in found] == [snapshot.uuid], target


def test_an_ambiguous_target_lists_the_candidates_and_an_unknown_one_the_services(
    living: Program, dead: Program, home: Path
) -> None:
    uuids = {snapshot.process.pid: snapshot for snapshot in mmstats.read_all(home).values()}
    # A second file of the same pid, as two containers that share a directory have it.
    source = Path(uuids[dead.pid].path)
    (home / f"web-{dead.pid}-00000000.mmstats").write_bytes(source.read_bytes())
    done = call("mmstats", "show", str(dead.pid), home=home, status=1)
    assert source.name.removesuffix(".mmstats") in done.stderr
    assert "00000000" in done.stderr
    done = call("mmstats", "show", "nobody", home=home, status=1)
    assert "web" in done.stderr
    assert "Traceback" not in done.stderr


def test_watch_shows_growth_per_second_over_all_workers(living: Program, home: Path) -> None:
    arguments = ["mmstats", "watch", "requests{status=200}", "requests", "latency", "in_flight", "--json", "-i", "0.3"]
    environment = dict(os.environ, MMSTATS_PATH=str(home), PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
    # A shell's background jobs ignore SIGINT, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True, env=environment
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process as watch:
        assert watch.stdout is not None
        json.loads(watch.stdout.readline())
        living.say()
        assert living.line() == "done"
        documents = [json.loads(watch.stdout.readline()) for _ in range(2)]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=20) == 130
    rates = [document["fields"]["requests{status=200}"]["rate"] for document in documents]
    assert 20 < max(rates) < 40, "10 in 0.3 s"
    assert documents[0]["fields"]["in_flight"]["level"] == 1
    assert documents[0]["alive"] == 1


def test_watch_counts_workers_that_start_and_files_that_vanish(
    living: Program, dead: Program, run: Callable[..., Program], home: Path
) -> None:
    from mmstats.commands import watch

    column = [watch.Column("requests")]
    before = watch.sampled(column, mmstats.read_all(home))[0]
    run(RECORDER).line()
    for path in home.glob(f"web-{dead.pid}-*"):
        path.unlink()
    now = watch.sampled(column, mmstats.read_all(home))[0]
    assert watch.reading(before, now, 1.0).rate == 7


def test_watch_refuses_fields_that_nobody_has(living: Program, home: Path) -> None:
    done = call("mmstats", "watch", "nope", home=home, status=1)
    assert "latency" in done.stderr


def test_prune_leaves_the_living_and_says_what_it_does(
    living: Program, dead: Program, home: Path, run: Callable[..., Program]
) -> None:
    copy = home / f"web-{living.pid}-00000000.mmstats"
    copy.write_bytes(next(home.glob(f"web-{living.pid}-*")).read_bytes())
    planned = report("mmstats", "prune", "--keep", "0", "--dry-run", home=home)
    assert [Path(file["path"]).name.split("-")[1] for file in planned["deleted"]] == [str(dead.pid)]
    assert len(list(home.iterdir())) == 3
    call("mmstats", "prune", "--keep", "0", home=home)
    assert {path.name.split("-")[1] for path in home.iterdir()} == {str(living.pid)}
    assert copy.exists(), "a copy of a live process' file is unknown, and stays"
    assert "0 of 0" in call("mmstats", "prune", "--max-age", "1s", "--max-bytes", "1k", home=home).stdout


@pytest.mark.parametrize("value", ["-1", "x"])
def test_prune_refuses_what_is_no_number(value: str, home: Path) -> None:
    done = call("mmstats", "prune", "--keep", value, home=home, status=2)
    assert "Traceback" not in done.stderr


def test_doctor_says_what_runs_and_what_would_go_wrong(home: Path) -> None:
    document = report("mmstats", "doctor", home=home)
    checks = {check["name"]: check for check in document["checks"]}
    assert checks["directory"]["state"] == "ok"
    assert str(home) in checks["directory"]["finding"]
    assert ("uncompiled" in checks["cells"]["finding"]) == (not mmstats.cells.COMPILED)
    bad = {"MMSTATS_MODE": "99", "MMSTATS_MAX_BYTES": "7", "MMSTATS_DISABLE": "1"}
    failing = report("mmstats", "doctor", home=home, env=bad, status=1)
    states = [(check["name"], check["state"]) for check in failing["checks"]]
    assert states.count(("settings", "fail")) == 2
    assert ("recording", "warn") in states


def test_doctor_names_a_directory_that_cannot_be_used(home: Path) -> None:
    (home / "file").write_text("")
    failing = report("mmstats", "doctor", home=home / "file", status=1)
    check = next(check for check in failing["checks"] if check["name"] == "directory")
    assert check["state"] == "fail"
    assert "MMSTATS_PATH" in check["advice"]


@pytest.mark.parametrize(
    "command", [("mmstats", "ls"), ("mmstats", "show"), ("mmstats", "doctor"), ("mmdebug", "postmortem")]
)
def test_the_command_line_works_without_any_library(command: tuple[str, ...], dead: Program, home: Path) -> None:
    extras = ("rich", "argcomplete", "pandas", "Cython")
    shown = call(*command, home=home, blocked=extras).stdout
    assert "web" in shown or "ok" in shown
    if mmstats.cells.COMPILED:
        # A table on a terminal needs rich, and falls back to plain text without it.
        assert "\x1b" not in call(*command, "--color", "always", home=home, blocked=extras).stdout


def test_a_terminal_that_goes_away_ends_a_command_quietly(living: Program, home: Path) -> None:
    environment = dict(os.environ, MMSTATS_PATH=str(home), PYTHONPATH=str(ROOT))
    done = subprocess.run(
        f"{sys.executable} -m mmstats show --all | head -1", shell=True, capture_output=True, text=True, env=environment
    )
    assert done.stderr == ""


def test_a_terminal_gets_a_table(living: Program, home: Path) -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    environment = dict(os.environ, MMSTATS_PATH=str(home), PYTHONPATH=str(ROOT), TERM="xterm", COLUMNS="100")
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, "-m", "mmstats", "ls"], stdout=theirs, env=environment)
    os.close(theirs)
    output = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux: the other side was closed
            break
        if not part:
            break
        output += part
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert b"alive" in output
    assert b"\x1b[" in output


def test_completion_knows_the_processes(living: Program, home: Path) -> None:
    pytest.importorskip("argcomplete")
    for shell in ("bash", "zsh", "fish"):
        assert "mmstats" in call("mmstats", "completion", shell, home=home).stdout
    from mmstats.commands.options import complete_targets

    assert complete_targets("we") == ["web"]
    assert str(living.pid) in complete_targets("")


@pytest.mark.parametrize("program", ["mmstats", "mmdebug"])
def test_help_and_version_are_there(program: str, home: Path) -> None:
    speed = "compiled" if mmstats.cells.COMPILED else "uncompiled"
    assert f"cells {speed}" in call(program, "--version", home=home).stdout
    assert "TARGET" in call(program, "--help", home=home).stdout
    assert call(program, home=home, status=2).stdout.startswith("usage")
    assert call(program, "nonsense", home=home, status=2).stdout == ""


def test_every_subcommand_explains_itself(home: Path) -> None:
    from mmdebug import commands as debug
    from mmstats import commands as stats

    for package in (stats, debug):
        for name in package.COMMANDS:
            shown = call(package.__name__.split(".")[0], name, "--help", home=home).stdout
            assert "--json" in shown
            assert len(shown.splitlines()) > 8


def test_a_postmortem_tells_who_it_was_how_it_ended_and_its_last_stats(dead: Program, home: Path) -> None:
    shown = call("mmdebug", "postmortem", home=home).stdout
    assert f"pid {dead.pid}: died" in shown
    assert "It died without a trace" in shown
    assert "its file was never marked as closed" in shown
    assert "status=500" in shown
    assert "no recorder was on in it" in shown
    document = report("mmdebug", "postmortem", str(dead.pid), home=home)["postmortem"]
    assert document["verdict"]["state"] == "died"
    assert document["stats"]["values"]["in_flight"]["value"] == 1


def test_the_newest_death_of_a_service_is_the_one_that_is_shown(
    dead: Program, run: Callable[..., Program], home: Path
) -> None:
    newer = run(RECORDER)
    newer.line()
    newer.kill()
    for arguments in ((), ("web",)):
        assert report("mmdebug", "postmortem", *arguments, home=home)["postmortem"]["stats"]["pid"] == newer.pid


def test_no_death_is_claimed_where_there_was_none(living: Program, run: Callable[..., Program], home: Path) -> None:
    closed = run(RECORDER)
    closed.line()
    closed.finish()
    done = call("mmdebug", "postmortem", home=home, status=1)
    assert "no process has died" in done.stderr
    assert "Traceback" not in done.stderr
    shown = call("mmdebug", "postmortem", str(closed.pid), home=home).stdout
    assert "it ended by itself, cleanly by its own account" in shown
    assert "alive" in call("mmdebug", "postmortem", str(living.pid), home=home).stdout


def test_what_is_no_stat_file_gives_an_error_and_not_a_traceback(home: Path) -> None:
    (home / "x.mmstats").write_bytes(b"no such thing")
    for program in (("mmstats", "show"), ("mmdebug", "postmortem")):
        done = call(*program, str(home / "x.mmstats"), home=home, status=1)
        assert "not a stat file" in done.stderr
        assert "Traceback" not in done.stderr
    assert "x.mmstats" in call("mmstats", "ls", home=home).stdout


def test_a_file_cannot_write_to_the_terminal_by_its_name(home: Path) -> None:
    name = home / "x\x1b[31m.mmstats"
    name.write_bytes(b"no such thing")
    for arguments in (("mmstats", "show", str(name)), ("mmdebug", "postmortem", str(name))):
        done = call(*arguments, home=home, status=1)
        assert "\x1b" not in done.stderr
        assert "\\x1b[31m" in done.stderr
    assert "\x1b" not in call("mmstats", "ls", home=home).stdout


def test_root_sees_the_directories_of_all_users(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    from mmstats import directory, fleet

    shared = tmp_path / "shm"
    shared.mkdir()
    shared.chmod(0o1777)
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    monkeypatch.delenv("MMSTATS_PATH")
    monkeypatch.setattr(directory, "SHARED_MEMORY", str(shared))
    theirs = shared / "mmstats-54321"
    theirs.mkdir(mode=0o700)
    program = Program(RECORDER, theirs)
    program.line()
    os.chown(theirs, 54321, 54321)
    try:
        found = wait_for(lambda: fleet.read_all(), "root's view")
        assert program.pid in {snapshot.process.pid for snapshot in found.values()}
    finally:
        program.kill()
        for stream in (program.process.stdin, program.process.stdout, program.process.stderr):
            if stream is not None:
                stream.close()
