"""What models promise: fields by inheritance, one file a process, names, ends, and no secrets."""

from __future__ import annotations

import gc
import inspect
import os
import re
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmstats
from mmstats import layout, registry

ROOT = Path(__file__).resolve().parents[2]


class Web(mmstats.BaseMmStats):
    requests = mmstats.CounterField(help="Requests served")
    active = mmstats.GaugeField()
    width = mmstats.IntField()
    render = mmstats.TimerField()
    name = mmstats.StringField()
    codes = mmstats.CounterField(labelnames=["code"])
    fixed = mmstats.StaticUIntField(value=5)


def files(home: Path) -> list[str]:
    return sorted([path.name for path in home.iterdir()])


# Fields by inheritance.


def test_a_model_has_the_fields_of_its_bases_and_may_override_them() -> None:
    class Parent(mmstats.BaseMmStats):
        a = mmstats.UIntField()
        b = mmstats.UIntField()

    class Child(Parent):
        a = mmstats.BoolField()
        c = mmstats.CounterField()

    class Grandchild(Child):
        b = mmstats.CounterField()
        c = mmstats.BoolField()

    kinds = {"a": mmstats.BoolField, "b": mmstats.CounterField, "c": mmstats.BoolField}
    assert {name: type(getattr(Grandchild, name)) for name in "abc"} == kinds
    assert (type(Child.a), type(Child.b), type(Child.c)) == (mmstats.BoolField, mmstats.UIntField, mmstats.CounterField)
    assert (type(Parent.a), type(Parent.b)) == (mmstats.UIntField, mmstats.UIntField)
    assert not hasattr(Parent, "c")
    stats = Grandchild()
    stats.a, stats.c = True, 1
    stats.b.inc(3)
    found = mmstats.read(stats.filename)
    assert {name: found[name].value for name in "abc"} == {"a": True, "b": 3, "c": True}
    assert found["b"].kind == "counter"


def test_instances_of_a_base_and_of_its_subclass_work_side_by_side() -> None:
    class Parent(mmstats.BaseMmStats):
        a = mmstats.IntField()
        b = mmstats.CounterField()

    class Child(Parent):
        first = mmstats.IntField()

    parent, child = Parent(), Child()
    parent.a = 1
    child.first = 2
    assert (parent.a, child.a, child.first) == (1, 1, 2)
    assert child.b is parent.b


def test_a_subclass_may_replace_a_field_by_something_else() -> None:
    class Plain(Web):
        requests = "none here"
        width = 7
        name = property(lambda self: "fixed")

    stats = Plain()
    assert (stats.requests, stats.width, stats.name) == ("none here", 7, "fixed")
    assert not {"requests", "width", "name"} & set(mmstats.read(stats.filename))


def test_fields_come_together_from_several_bases() -> None:
    class A(mmstats.BaseMmStats):
        x = mmstats.CounterField(name="x.of.a")
        a = mmstats.IntField()

    class B(mmstats.BaseMmStats):
        x = mmstats.CounterField(name="x.of.b")
        b = mmstats.IntField()

    class Both(A, B):
        pass

    stats = Both()
    stats.x.inc()
    stats.a, stats.b = 1, 2
    found = mmstats.read(stats.filename)
    assert (found["x.of.a"].value, found["a"].value, found["b"].value) == (1, 1, 2)


def test_a_model_lists_its_fields() -> None:
    assert set(Web()) == {"requests", "active", "width", "render", "name", "codes", "fixed"}


def test_the_default_fields_say_whose_file_it_is() -> None:
    stats = mmstats.MmStats()
    found = mmstats.read(stats.filename)
    assert found["sys.pid"].value == stats.pid == os.getpid()
    assert found["sys.tid"].value == threading.get_native_id()
    assert (found["sys.uid"].value, found["sys.gid"].value) == (os.getuid(), os.getgid())
    assert found["org.python.version"].value == sys.version.replace("\n", "")
    assert found["sys.created"].value == pytest.approx(found.created / 1e9, abs=5)
    assert all(found[name].family.flags & layout.DESCRIPTIVE for name in found)
    assert "sys.pid" not in mmstats.read(mmstats.BaseMmStats(filename="bare.mmstats").filename)


# One file a process.


def test_two_models_share_the_files_of_their_process(home: Path) -> None:
    class Other(mmstats.BaseMmStats):
        jobs = mmstats.CounterField()

    web, other = Web(), Other()
    web.requests.inc()
    other.jobs.inc(2)
    assert web.filename == other.filename == str(home / files(home)[0])
    assert len(files(home)) == 1
    found = mmstats.read(web.filename)
    assert (found["requests"].value, found["jobs"].value) == (1, 2)


def test_the_same_model_made_twice_has_the_same_cells() -> None:
    one, two = Web(), Web()
    one.requests.inc()
    two.requests.inc()
    one.width = 5
    one.codes.labels(200).inc()
    assert one.requests.value == two.requests.value == 2
    assert two.width == 5
    assert two.codes.labels("200").value == 1


def test_models_of_equal_definitions_have_the_same_cells() -> None:
    class Same(mmstats.BaseMmStats):
        count = mmstats.CounterField(label="requests", help="Requests served")

    web, same = Web(), Same()
    web.requests.inc()
    same.count.inc()
    assert web.requests.value == 2


@pytest.mark.parametrize(
    "other",
    [
        mmstats.CounterField(name="requests"),
        mmstats.CounterField(name="requests", help="Requests served", unit="requests"),
        mmstats.CounterField(name="requests", help="Requests served", labelnames=["x"]),
        mmstats.CounterField(name="requests", help="Requests served", type=float),
        mmstats.CounterField(name="requests", help="Requests served", aggregate="max"),
        mmstats.GaugeField(name="requests", help="Requests served"),
        mmstats.UInt64Field(name="requests", help="Requests served"),
    ],
)
def test_one_name_defined_differently_is_refused_with_both_places(other: mmstats.Field) -> None:
    line = inspect.getsourcelines(Web)[1] + 1
    Web()
    with pytest.raises(mmstats.DefinitionError) as raised:
        type("Other", (mmstats.BaseMmStats,), {"other": other})()
    message = str(raised.value)
    assert "'requests' is defined twice and differently" in message
    places = re.findall(rf"{re.escape(__file__)}:(\d+)", message)
    assert len(places) == 2
    assert int(places[0]) == line
    assert int(places[1]) > line


def test_after_a_conflict_the_first_definition_goes_on() -> None:
    web = Web()
    with pytest.raises(mmstats.DefinitionError):
        type("Other", (mmstats.BaseMmStats,), {"requests": mmstats.GaugeField()})()
    web.requests.inc()
    assert mmstats.read(web.filename)["requests"].value == 1


def test_fields_of_one_name_conflict_inside_a_model_too() -> None:
    class Twice(mmstats.BaseMmStats):
        a = mmstats.IntField(name="same")
        b = mmstats.DoubleField(name="same")

    with pytest.raises(mmstats.DefinitionError, match="'same' is defined twice"):
        Twice()


# Names of files.


def test_the_files_name_carries_service_pid_and_uuid(home: Path) -> None:
    stats = Web(service="shop")
    uuid = mmstats.read(stats.filename).uuid
    assert files(home) == [f"shop-{os.getpid()}-{uuid[:8]}.mmstats"]


def test_a_model_may_have_a_file_of_its_own(home: Path) -> None:
    shared, own = Web(), Web(filename="own.mmstats")
    shared.requests.inc()
    assert own.requests.value == 0
    assert own.filename == str(home / "own.mmstats")
    assert len(files(home)) == 2


def test_a_file_name_may_hold_command_pid_and_thread(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/shop/app.py"])
    stats = Web(filename="x-{CMD}-{PID}-{TID}.mmstats")
    assert stats.filename == str(home / f"x-app.py-{os.getpid()}-{threading.get_native_id()}.mmstats")
    assert Path(stats.filename).exists()


def test_the_directory_may_be_given_and_hold_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app.py"])
    stats = Web(path=str(home / "{CMD}-{PID}"), filename="a.mmstats")
    assert stats.filename == str(home / f"app.py-{os.getpid()}" / "a.mmstats")
    assert Web(path=str(home / f"app.py-{os.getpid()}"), filename="a.mmstats").requests is stats.requests
    assert mmstats.read(stats.filename)["requests"].value == 0


def test_the_environment_may_give_the_file_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_FILES", "env-{PID}.mmstats")
    stats = Web()
    assert files(home) == [f"env-{os.getpid()}.mmstats"]
    assert Web(filename="arg.mmstats").filename == str(home / "arg.mmstats")
    assert stats.filename != ""


@pytest.mark.parametrize("template", ["{HOST}.mmstats", "{0}.mmstats", "{PID.mmstats", "{PID.x}.mmstats", "{PID:q}"])
def test_a_template_that_cannot_be_filled_in_says_what_may_stand_there(template: str) -> None:
    with pytest.raises(mmstats.ConfigurationError, match=r"\{CMD\}, \{PID\} and \{TID\}"):
        Web(path=template)
    with pytest.raises(mmstats.SegmentError, match=r"\{CMD\}, \{PID\} and \{TID\}"):
        Web(filename=template, strict=True)


def test_a_bad_template_from_the_environment_stops_no_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_FILES", "{HOST}.mmstats")
    with pytest.warns(RuntimeWarning, match="private|own memory"):
        stats = Web()
    stats.requests.inc()
    assert (stats.requests.value, stats.filename, files(home)) == (1, "", [])


def test_nothing_of_somebody_alive_is_overwritten(home: Path) -> None:
    first = Web(filename="same.mmstats")
    first.requests.inc()
    registry._registries.clear()
    second = Web(filename="same.mmstats")
    assert second.filename == str(home / f"same-{os.getpid()}.mmstats")
    assert mmstats.read(first.filename)["requests"].value == 1
    first.remove()


def test_a_prefix_stands_before_each_name(home: Path) -> None:
    plain, prefixed = Web(), Web(label_prefix="org.shop.")
    prefixed.requests.inc()
    prefixed.width = 9
    assert (plain.label_prefix, prefixed.label_prefix) == ("", "org.shop.")
    assert (plain.requests.value, plain.width) == (0, 0)
    found = mmstats.read(plain.filename)
    assert (found["org.shop.requests"].value, found["org.shop.width"].value) == (1, 9)
    assert found["requests"].value == 0
    late = prefixed.add_field("late", mmstats.CounterField())
    late.inc()
    assert mmstats.read(plain.filename)["org.shop.late"].value == 1


# The service.


def service_of(stats: Any) -> str:
    return mmstats.read(stats.filename).process.service


@pytest.mark.parametrize(
    ("argv", "service"),
    [
        (["/opt/shop/app.py"], "app"),
        (["gunicorn"], "gunicorn"),
        (["/usr/lib/python3/celery/__main__.py"], "celery"),
        (["-c"], "python"),
        ([""], "python"),
        ([], "python"),
        (["/x/a b/\u00fcber app.py"], "_ber_app"),
        (["/x/.hidden"], "hidden"),
    ],
)
def test_by_default_a_service_is_called_as_its_command(
    argv: list[str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert service_of(Web()) == service


def test_the_environment_names_the_service_and_an_argument_overrules_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_SERVICE", "from env")
    assert service_of(Web(filename="a.mmstats")) == "from_env"
    assert service_of(Web(filename="b.mmstats", service="from-argument")) == "from-argument"
    web = Web()
    assert service_of(web) == "from_env"
    Web(service="from-argument")
    assert service_of(web) == "from-argument"


def test_a_service_claimed_later_renames_the_file(home: Path) -> None:
    early = Web()
    early.requests.inc()
    before = early.filename
    late = Web(service="shop")
    assert late.filename == early.filename != before
    assert Path(early.filename).name == f"shop-{os.getpid()}-{before[-16:]}"
    assert [str(home / name) for name in files(home)] == [early.filename]
    found = mmstats.read(early.filename)
    assert (found.process.service, found["requests"].value) == ("shop", 1)
    assert found.alive is True
    early.requests.inc()
    assert mmstats.read(early.filename)["requests"].value == 2


def test_a_service_claimed_later_leaves_the_programs_own_file_name_alone(home: Path) -> None:
    early = Web(filename="own.mmstats")
    Web(filename="own.mmstats", service="shop")
    assert early.filename == str(home / "own.mmstats")
    assert service_of(early) == "shop"


def test_a_process_has_one_service() -> None:
    Web(service="shop")
    assert service_of(Web(service="shop")) == "shop"
    with pytest.raises(mmstats.DefinitionError, match="already records as service 'shop', not 'bank'"):
        Web(service="bank")
    assert service_of(Web(service="bank", filename="bank.mmstats")) == "bank"


# The end of a model.


def test_what_is_touched_after_remove_raises_and_says_why() -> None:
    stats = Web()
    kept = stats.requests, stats.codes.labels("200"), stats.render
    stats.remove()
    touches: list[Callable[[], Any]] = [
        lambda: stats.requests.inc(),
        lambda: stats.requests.value,
        lambda: stats.active.set(1),
        lambda: stats.width,
        lambda: setattr(stats, "width", 1),
        lambda: stats.render.last,
        lambda: stats.render.__enter__() and stats.render.observe(1),
        lambda: setattr(stats, "name", "x"),
        lambda: stats.name,
        lambda: stats.codes.labels("200"),
        lambda: stats.codes.labels("new"),
        lambda: stats.fixed,
        lambda: stats.add_field("x", mmstats.CounterField()),
        lambda: stats.flush(),
        lambda: kept[0].inc(),
        lambda: kept[1].inc(),
        lambda: kept[2].observe(1),
    ]
    for touch in touches:
        with pytest.raises(mmstats.ClosedError, match="removed"):
            touch()


def test_remove_deletes_the_file_and_a_second_call_does_nothing(home: Path) -> None:
    stats = Web()
    path = stats.filename
    stats.remove()
    assert files(home) == []
    assert stats.filename == path
    assert repr(stats) == "<Web of 7 fields, removed>"
    stats.remove()
    again = Web()
    again.requests.inc()
    stats.remove()
    assert again.requests.value == 1
    assert len(files(home)) == 1


def test_the_file_goes_with_the_last_model(home: Path) -> None:
    class Other(mmstats.BaseMmStats):
        jobs = mmstats.CounterField()

    web, other = Web(), Other()
    web.remove()
    other.jobs.inc()
    assert mmstats.read(other.filename)["jobs"].value == 1
    with pytest.raises(mmstats.ClosedError):
        web.requests.inc()
    other.remove()
    assert files(home) == []


def test_of_two_equal_models_the_one_lives_on_when_the_other_is_removed() -> None:
    one, two = Web(), Web()
    one.remove()
    two.requests.inc()
    two.width = 3
    two.codes.labels("200").inc()
    assert (two.requests.value, two.width, two.codes.labels("200").value) == (1, 3, 1)
    with pytest.raises(mmstats.ClosedError):
        one.width  # noqa: B018
    with pytest.raises(mmstats.ClosedError):
        one.codes.labels("200")


def test_a_model_that_nobody_holds_keeps_its_stats(home: Path) -> None:
    counter = Web().requests
    gc.collect()
    counter.inc()
    assert mmstats.read(home / files(home)[0])["requests"].value == 1


def test_remove_does_not_ask_static_fields_for_their_values_again(home: Path) -> None:
    calls: list[int] = []

    def value() -> int:
        if calls:
            raise RuntimeError("asked twice")
        calls.append(1)
        return 7

    stats = type("Once", (mmstats.BaseMmStats,), {"fact": mmstats.StaticUIntField(value=value)})()
    stats.remove()
    assert files(home) == []


def test_remove_leaves_the_file_of_somebody_else_alone(home: Path) -> None:
    stats = Web(filename="own.mmstats")
    os.unlink(stats.filename)
    Path(stats.filename).write_bytes(b"theirs")
    stats.remove()
    assert (home / "own.mmstats").read_bytes() == b"theirs"


# What else a model has.


def test_flush_size_and_repr() -> None:
    stats = Web()
    stats.flush()
    stats.flush(True)
    assert 4096 <= stats.size <= 64 * 1024
    assert repr(stats) == f"<Web of 7 fields, {stats.filename}>"


def test_size_is_what_the_file_takes_of_the_disk() -> None:
    stats = Web()
    assert stats.size <= os.stat(stats.filename).st_blocks * 512 <= stats.size + 8192
    for number in range(400):
        stats.codes.labels(number)
    assert stats.size <= os.stat(stats.filename).st_blocks * 512 <= stats.size + 8192


def test_fields_may_be_added_at_run_time() -> None:
    stats = Web()
    requests = stats.add_field("late.requests", mmstats.CounterField(help="Late"))
    size = stats.add_field("late.size", mmstats.IntField())
    named = stats.add_field("ignored", mmstats.GaugeField(name="late.named"))
    codes = stats.add_field("late.codes", mmstats.CounterField(labelnames=["code"]))
    render = stats.add_field("late.render", mmstats.TimerField())
    fact = stats.add_field("late.fact", mmstats.StaticTextField(value="x"))
    requests.inc(3)
    size.set(-4)
    size.value += 1
    named.set(5)
    codes.labels(200).inc()
    with render:
        pass
    found = mmstats.read(stats.filename)
    assert found["late.requests"].value == 3
    assert found["late.size"].value == size.value == -3
    assert found["late.named"].value == 5.0
    assert found["late.codes"]["200"].value == 1
    assert found["late.render"].count == 1
    assert found["late.fact"].value == fact.value == "x"


def test_a_field_added_twice_is_the_same_and_added_differently_is_refused() -> None:
    stats = Web()
    first = stats.add_field("late", mmstats.CounterField())
    assert stats.add_field("late", mmstats.CounterField()) is first
    assert stats.add_field("requests", mmstats.CounterField(help="Requests served")) is stats.requests
    with pytest.raises(mmstats.DefinitionError, match="'late' is defined twice"):
        stats.add_field("late", mmstats.GaugeField())


def test_strict_raises_where_there_can_be_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_PATH", "/dev/null/stats")
    with pytest.raises(mmstats.SegmentError, match="no stat file could be made") as raised:
        Web(strict=True)
    assert isinstance(raised.value.__cause__, OSError)


def _used_twice() -> Any:
    stats = Web()
    Web().codes.labels("new").inc()
    return stats


def test_without_strict_stats_stay_in_private_memory_and_it_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSTATS_PATH", "/dev/null/stats")
    with pytest.warns(RuntimeWarning, match="private|own memory") as said:
        stats = _used_twice()
    assert len(said) == 1
    stats.requests.inc()
    stats.width = 4
    with stats.render:
        pass
    assert (stats.requests.value, stats.width, stats.render.count, stats.filename) == (1, 4, 1, "")
    assert repr(stats) == "<Web of 7 fields, in private memory>"
    assert stats.size > 0
    stats.flush()
    stats.remove()
    with pytest.raises(mmstats.ClosedError):
        stats.requests.inc()


def test_where_warnings_are_errors_a_full_disk_is_still_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMSTATS_PATH", "/dev/null/stats")
    stats = Web()
    stats.requests.inc()
    assert stats.requests.value == 1
    assert "no stat file could be made" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "yes"])
def test_mmstats_can_be_switched_off(home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MMSTATS_DISABLE", value)
    stats = Web(strict=True)
    stats.requests.inc()
    assert (stats.requests.value, stats.filename, files(home)) == (1, "", [])


@pytest.mark.parametrize("value", ["", "0"])
def test_mmstats_is_not_switched_off_by_nothing_and_zero(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MMSTATS_DISABLE", value)
    assert Web().filename


@pytest.mark.parametrize(("value", "mode"), [(None, 0o600), ("0640", 0o640), ("644", 0o644)])
def test_the_operator_gives_the_mode_of_files(monkeypatch: pytest.MonkeyPatch, value: str | None, mode: int) -> None:
    if value is not None:
        monkeypatch.setenv("MMSTATS_MODE", value)
    assert stat.S_IMODE(os.stat(Web().filename).st_mode) == mode


@pytest.mark.parametrize("value", ["0755", "0400", "777", "rw", "-1", "0666", "0660", "01600"])
def test_a_mode_that_is_none_makes_no_file(home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MMSTATS_MODE", value)
    with pytest.raises(mmstats.SegmentError, match=f"MMSTATS_MODE={value}"):
        Web(strict=True)
    assert files(home) == []


@pytest.mark.parametrize("value", ["1", "16383", "x", "99999999999"])
def test_a_limit_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MMSTATS_MAX_BYTES", value)
    with pytest.raises(mmstats.SegmentError, match=f"MMSTATS_MAX_BYTES={value}"):
        Web(strict=True)


# Secrets.

SECRETIVE = """
    import mmstats, sys

    class Stats(mmstats.MmStats):
        requests = mmstats.CounterField()

    stats = Stats(service="shop")
    stats.requests.inc()
    print(stats.filename, flush=True)
    sys.stdin.read()
"""


def test_secrets_on_the_command_line_and_in_the_environment_do_not_reach_the_file(home: Path, tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text(textwrap.dedent(SECRETIVE))
    secrets = ["hunter2", "s3cr3t-of-db", "tok-en-123", "pass-in-url", "not-asked-for"]
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "MMSTATS_PATH": str(home),
        "MMSTATS_ENVIRON": "DB_PASSWORD, DATABASE_URL,GREETING",
        "MMSTATS_PURE_PYTHON": os.environ.get("MMSTATS_PURE_PYTHON", ""),
        "DB_PASSWORD": "s3cr3t-of-db",
        "DATABASE_URL": "postgres://user:pass-in-url@db/shop",
        "GREETING": "hello there",
        "UNRELATED": "not-asked-for",
        "CELERY_BROKER_PASSWORD": "s3cr3t-of-db",
    }
    arguments = ["--password=hunter2", "--token", "tok-en-123", "--workers=4", "postgres://u:pass-in-url@db/x"]
    process = subprocess.Popen(
        [sys.executable, str(program), *arguments], env=environ, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        assert path, process.stderr and process.stderr.read()
        found = mmstats.read(path)
        content = Path(path).read_bytes()
        process.communicate("", timeout=60)
        content += Path(path).read_bytes()
    finally:
        process.kill()
        process.communicate()
    for secret in secrets:
        assert secret.encode() not in content, secret
    assert b"hello there" in content
    assert b"--workers=4" in content
    assert "--password=[redacted]" in found.process.argv
    assert found.process.argv[-1].startswith("postgres://")
    assert found.process.environ["DB_PASSWORD"] == "[redacted]"
    assert found.process.environ["GREETING"] == "hello there"
    assert "UNRELATED" not in found.process.environ
    assert {path.name for path in home.iterdir()} == {Path(path).name}


def test_a_long_command_line_is_cut_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["app", *[f"--option-{number}" for number in range(500)]])
    argv = mmstats.read(Web().filename).process.argv
    assert argv[:2] == ("app", "--option-0")
    assert len("".join(argv)) < 1024
    assert re.search(r"\[\d+ cut\]$", argv[-1])
