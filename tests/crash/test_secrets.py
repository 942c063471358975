"""Secrets planted wherever a program has some: whatever it dies of, none of them is in any byte that it left.

Each stands under a name, or has a form, that `mmstats.redact` promises to take out; beside each stands
something harmless, which must be there, so that nothing passes for want of a record.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import ROOT

import mmdebug
from mmdebug import rings
from mmdebug._packing import plain
from mmdebug.box import Box
from mmdebug.postmortem import PostMortem
from mmdebug.sanitize import Sanitizer, harmless_template
from mmstats import redact, registry

#: What is planted: no part of it is a word, or stands in any path.
SECRETS = {
    place: f"Zq{index:02d}xKvW7tQj9LmP3"
    for index, place in enumerate((
        "option", "assigned", "url", "environment", "environment_url", "local", "nested", "attribute", "argument",
        "bytes", "message", "note", "cause", "source", "log", "log_args", "log_split", "log_quoted", "log_extra",
        "log_url", "log_error", "event", "event_field", "event_url", "event_nested", "event_again", "activity",
        "activity_field", "activity_url", "captured", "greenlet", "cut", "log_cut", "key", "thread",
    ))
}  # fmt: skip

APP = """
import ctypes, logging, os, sys, threading, time

secrets = dict(line.split("=", 1) for line in sys.stdin.read().splitlines())
how = sys.argv[1]
import mmdebug
mmdebug.install(interval=0.1)
log = logging.getLogger("app")
log.setLevel(logging.INFO)

class Client:
    def __init__(self):
        self.token = secrets["attribute"]
        self.host = "host-of-the-client"

def connect(user, passwd):
    password = secrets["local"]
    config = {"api_key": secrets["nested"], "region": "eu-of-the-nested"}
    client = Client()
    header = b"Authorization: Basic " + secrets["bytes"].encode()
    fruit = "apple-of-the-locals"
    url = "postgres://user:SOURCE@host/of-the-source"  # the line that stands in the record
    try:
        try:
            raise KeyError("root-of-the-cause password=" + secrets["cause"])
        except KeyError as error:
            raise ValueError("message-of-the-error postgres://user:%s@host/db" % secrets["message"]) from error
    except ValueError as error:
        error.add_note("note-of-the-error token=" + secrets["note"])
        raise

def log_much():
    log.info("before-of-the-log password=%s" % secrets["log"])
    for colour in ("red", "green", "blue"):
        log.info("%s=%s", "args-of-the-log", colour)
        log.info("split-of-the-log: %s %s", "colour", colour)
        log.info("%s '%s'", "quoted-log", colour)
    log.info("%s=%s", "password", secrets["log_args"])
    log.info("split-of-the-log: %s %s", "--password", secrets["log_split"])
    log.info("%s '%s'", "password", secrets["log_quoted"][:10])
    log.info("extra-of-the-log", extra={"auth_token": secrets["log_extra"], "customer": "customer-of-the-extra"})
    log.info("url-of-the-log %s", "https://user:%s@host/" % secrets["log_url"])
    try:
        raise LookupError("raised-of-the-log secret: " + secrets["log_error"])
    except LookupError:
        log.exception("failed-of-the-log")
    log.info("cut-of-the-log" + "." * (2048 - 14 - 60) + " postgres://user:" + secrets["log_cut"] * 4 + "@host/")

def record_events():
    mmdebug.event("name-of-the-event password=" + secrets["event"])
    mmdebug.event("field-of-the-event", password=secrets["event_field"], size=12)
    mmdebug.event("url-of-the-event", url="redis://:%s@host/0" % secrets["event_url"])
    mmdebug.event("nested-of-the-event", headers={"Cookie": secrets["event_nested"], "Host": "host-of-the-event"})
    for note in ("apple", "pear", "plum"):
        mmdebug.event("again-of-the-event", note=note)
    mmdebug.event("again-of-the-event", note="token: " + secrets["event_again"])
    mmdebug.event("again-of-the-event", **{"password=" + secrets["key"]: 1})
    mmdebug.event("cut-of-the-event" + "." * (2048 - 16 - 60) + " postgres://user:" + secrets["cut"] * 4 + "@host/")
    try:
        raise RuntimeError("captured-of-the-error api_key=" + secrets["captured"])
    except RuntimeError:
        mmdebug.capture_exception()

def fail_in_a_greenlet():
    try:
        import gevent
    except ImportError:
        return
    time.sleep(0.25)  # a sample of the recorder, which then knows gevent
    def failing():
        raise OSError("greenlet-of-the-error password=" + secrets["greenlet"])
    gevent.joinall([gevent.spawn(failing)])

threading.Thread(target=time.sleep, args=(1000,), name="pool token=" + secrets["thread"], daemon=True).start()
log_much()
record_events()
fail_in_a_greenlet()
print(mmdebug.installation.installation() and mmdebug.installation.stats_file(), flush=True)
with mmdebug.activity("GET /of-the-activity?token=" + secrets["activity"]):
    with mmdebug.activity("inner-of-the-activity", secret=secrets["activity_field"], customer=42):
        with mmdebug.activity("url-of-the-activity", url="amqp://u:%s@host/" % secrets["activity_url"]):
            time.sleep(0.25)
            if how == "SIGKILL":
                os.kill(os.getpid(), 9)
            if how == "SIGSEGV":
                ctypes.string_at(0)
            connect("user-of-the-arguments", secrets["argument"])
"""


@pytest.fixture
def box(home: Path) -> Box:
    made = Box(registry.registry_for(), dict)
    registry.adopt("box", made)
    made.open()
    return made


def die(home: Path, tmp_path: Path, how: str) -> tuple[PostMortem, dict[str, bytes]]:
    """Run the program to its end; what it left, as it is read and as raw bytes."""
    source = tmp_path / "app.py"
    source.write_text(APP.replace("SOURCE", SECRETS["source"]))
    env = {
        **os.environ, "PYTHONPATH": str(ROOT), "MMSTATS_PATH": str(home), "DB_PASSWORD": SECRETS["environment"],
        "DATABASE_URL": f"postgres://u:{SECRETS['environment_url']}@host-of-the-environment/db",
        "GREETING": "hello-of-the-environment",
    }  # fmt: skip
    command = [
        sys.executable, str(source), how, "--password", SECRETS["option"], f"--api-key={SECRETS['assigned']}",
        f"--db-url=postgres://u:{SECRETS['url']}@host-of-the-arguments/", "last-of-the-arguments",
    ]  # fmt: skip
    done = subprocess.run(
        command, input="".join([f"{place}={value}\n" for place, value in SECRETS.items()]), env=env,
        capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    expected = {"SIGKILL": -signal.SIGKILL, "SIGSEGV": -signal.SIGSEGV, "exception": 1}[how]
    assert done.returncode == expected, done.stderr
    left = {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    return mmdebug.load(done.stdout.strip()), left


@pytest.mark.parametrize("how", ["exception", "SIGKILL", "SIGSEGV"])
def test_no_planted_secret_is_in_any_byte_that_was_left(home: Path, tmp_path: Path, how: str) -> None:
    found, left = die(home, tmp_path, how)
    assert {name.rpartition(".")[2] for name in left} >= {"mmstats", "box"}
    assert ("fault" in {name.rpartition(".")[2] for name in left}) == (how != "exception")

    everything = b"".join(left.values()).decode("utf-8", "replace")
    # Also not the better half of it, as a cut might leave it.
    leaked = {place for place, value in SECRETS.items() if value[:10] in everything}
    assert sorted(leaked) == []

    # So that it can fail: what stood beside each is there.
    assert found.problems == ()
    assert found.process.argv is not None
    arguments = " ".join(found.process.argv)
    for part in ("--password", "--api-key=[redacted]", "[redacted]@host-of-the-arguments/", "last-of-the-arguments"):
        assert part in arguments, arguments
    names = [one.name for one in found.events]
    for part in (
        "before-of-the-log", "args-of-the-log=green", "split-of-the-log: --password", "password=[redacted]",
        "extra-of-the-log", "url-of-the-log https://[redacted]@host/", "failed-of-the-log", "cut-of-the-log",
        "name-of-the-event", "field-of-the-event", "url-of-the-event", "nested-of-the-event", "again-of-the-event",
        "cut-of-the-event", "quoted-log 'green'",
    ):  # fmt: skip
        assert any([part in name for name in names]), (part, names)
    fields = {
        f"{one.name.partition('.')[0]} {key}": str(value) for one in found.events for key, value in one.fields.items()
    }
    assert fields["extra-of-the-log customer"] == "customer-of-the-extra"
    assert fields["extra-of-the-log auth_token"] == redact.REDACTED
    assert fields["field-of-the-event password"] == redact.REDACTED
    assert fields["field-of-the-event size"] == "12"
    assert "host-of-the-event" in fields["nested-of-the-event headers"]
    assert [one.fields.get("note") for one in found.events if one.name == "again-of-the-event"][:4] == [
        "apple", "pear", "plum", "token: [redacted]",
    ]  # fmt: skip
    messages = {record.type: record.error.message for record in found.exceptions if record.error is not None}
    assert messages["RuntimeError"] == "captured-of-the-error api_key=[redacted]"
    assert messages["LookupError"].startswith("raised-of-the-log secret: [redacted]")
    assert found.box is not None and any(["pool" in name for name in found.box.threads.values()])
    if how == "exception":
        _the_error_is_there(found)
    else:
        activities = {one.name.partition("?")[0]: dict(one.fields) for one in found.activities}
        assert activities == {
            "GET /of-the-activity": {},
            "inner-of-the-activity": {"secret": redact.REDACTED, "customer": 42},
            "url-of-the-activity": {"url": "amqp://[redacted]@host/"},
        }


def _the_error_is_there(found: PostMortem) -> None:
    (fatal,) = [record for record in found.exceptions if record.fatal]
    error = fatal.error
    assert error is not None and error.cause is not None
    assert error.message == "message-of-the-error postgres://[redacted]@host/db"
    assert error.notes == ("note-of-the-error token=[redacted]",)
    assert "root-of-the-cause password=[redacted]" in error.cause.message
    shown = error.frames[-1].locals
    assert shown["user"] == "'user-of-the-arguments'" and shown["passwd"] == redact.REDACTED
    assert shown["password"] == redact.REDACTED and shown["fruit"] == "'apple-of-the-locals'"
    assert "eu-of-the-nested" in shown["config"] and "host-of-the-client" in shown["client"]
    assert any([line.lstrip().startswith("raise ValueError") for _, line in error.frames[-1].source])


def test_a_secret_in_the_lines_of_the_failing_code_is_taken_out(home: Path, tmp_path: Path) -> None:
    secret = SECRETS["source"]
    source = tmp_path / "app.py"
    source.write_text(
        "import mmdebug\nmmdebug.install()\nprint(mmdebug.installation.stats_file())\n\n\ndef fail():\n"
        f"    password = '{secret}'\n    url = 'postgres://user:{secret}@host/of-the-source'\n"
        f"    raise ValueError('failed', token='{secret}', colour='red-of-the-source')\n\n\nfail()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MMSTATS_PATH": str(home)}
    done = subprocess.run([sys.executable, str(source)], env=env, capture_output=True, text=True, timeout=60)
    found = mmdebug.load(done.stdout.strip())
    (record,) = found.exceptions
    assert record.error is not None
    lines = dict(record.error.frames[-1].source)
    assert "of-the-source" in lines[8] and "red-of-the-source" in lines[9] and "password = " in lines[7]
    for path in home.rglob("*"):
        assert not path.is_file() or secret[:10].encode() not in path.read_bytes(), path.name


# What the hot paths take as it is must be nothing that redaction would change.

_words = st.sampled_from([
    "password", "pass", "token", "secret", "key", "bearer", "Basic", "digest", "apikey", "authorization", "--password",
    "-p", "=", ":", "'", '"', "\\", "@", "//", "http://", "user:pw@", " ", "\t", "\n", "-", "_", ".", "%", "<", ">",
    "AKIA", "ghp_", "eyJ", "sk-", "xoxb-", "SG.", "hvs.", "AbCdEf", "aB3dE6gH9j", "0123456789", "a1", "Z9", "é", "\0",
    "name", "redis", "localhost", "tcp(", "unix(", "user", "GET", "/", "hunter2",
])  # fmt: skip
_texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=st.characters(max_codepoint=127), max_size=40),
    st.lists(st.one_of(_words, st.text(alphabet="abcXYZ019 -_=", max_size=6)), max_size=8).map("".join),
)
_many = settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
_some = settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@_many
@given(_texts)
def test_a_plain_text_is_one_that_redaction_leaves_alone(text: str) -> None:
    if plain(text):
        assert redact.text(text) == text


class Spy(Sanitizer):
    """Notes what the hot paths did not take as it is."""

    asked: int = 0

    def event(self, name: Any, fields: Any) -> Any:
        self.asked += 1
        return super().event(name, fields)


def test_what_the_recorder_takes_as_it_is_redaction_leaves_alone(box: Box) -> None:
    spy = Spy()
    recorder = rings.Recorder(spy)
    recorder.switch_on(box.rings, box.samples, box.slots)
    taken = 0

    @_many
    @given(_texts)
    def check(text: str) -> None:
        nonlocal taken
        for _ in range(2):  # the second time it may be known
            spy.asked = 0
            recorder.event(text)
            if not spy.asked:
                taken += 1
                assert redact.text(text) == text
            # Both kinds of recorder are as quick with the same texts.
            assert bool(spy.asked) <= (not plain(text))
            spy.asked = 0
            recorder.event("name", field=text)
            if not spy.asked:
                assert redact.text(text) == text

    check()
    assert taken > 100


_templates = st.one_of(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["%s", "%d", "%s", "%r", "%5s", "%-8s", "%.3s", "%x", "%%", "%s %s", "'%s'", "(%s)", "%s, "]
            ),
            _words,
            st.text(alphabet="abc -_=:", max_size=4),
        ),
        max_size=6,
    ).map("".join),
)
_arguments = st.one_of(_words, st.text(alphabet="abcRrXYZ019 -_./", max_size=12), st.integers(0, 10**12), st.none())


def _filled(template: str, arguments: list[Any]) -> str | None:
    """`template` with as many of the arguments as it takes; None if it can't be filled in."""
    for count in range(len(arguments) + 1):
        try:
            return str(template % tuple(arguments[:count]))
        except (TypeError, ValueError, OverflowError, IndexError):
            continue
    return None


@_many
@given(_templates, st.lists(_arguments, min_size=4, max_size=4))
@example("%s '%s'", ["password", "hunter2", "", ""])
@example("%s %s", ["bearer", "abc123def", "", ""])
@example("%s %s", ["Basic", "dXNlcjpw", "", ""])
@example("%s: %s", ["password", "hunter2", "", ""])
@example("%s %s", ["token", "'hunter2'", "", ""])
def test_a_harmless_template_filled_in_with_plain_values_is_one_that_redaction_leaves_alone(
    template: str, arguments: list[Any]
) -> None:
    text = _filled(template, arguments)
    if text is None or not all([plain(value) for value in arguments if isinstance(value, str)]):
        return
    if harmless_template(template):
        assert redact.text(text) == text


@pytest.mark.parametrize(
    ("template", "harmless", "secret"),
    [
        ("%s=%s", ("colour", "red"), ("password", "hunter2")),
        ("%s '%s'", ("colour", "red"), ("password", "hunter2")),
        ("%s: %s", ("colour", "red"), ("api_key", "hunter2")),
        ("%s %s", ("colour", "red"), ("--password", "hunter2")),
        ("%s %s", ("colour", "red"), ("bearer", "hunter2x")),
        ("auth %s %s", ("colour", "red"), ("Basic", "aHVudGVyMg")),
        ("%s//%s:%s@%s", ("http:", "user", "1", "host"), ("http:", "user", "hunter2", "host")),
        ("%s%s", ("colour", "red"), ("ghp_aB3d", "E6gH9jK2mN5pQ8")),
        ("%(name)s=%(value)s", {"name": "colour", "value": "red"}, {"name": "password", "value": "hunter2"}),
    ],
)
def test_a_log_template_that_was_harmless_often_is_looked_at_again(
    box: Box, monkeypatch: pytest.MonkeyPatch, template: str, harmless: Any, secret: Any
) -> None:
    from mmdebug import logs
    from mmdebug import recorder as recording
    from mmdebug.boxreader import read_box

    sanitizer = Sanitizer()
    recorder = rings.Recorder(sanitizer)
    recorder.switch_on(box.rings, box.samples, box.slots)
    recorder.set_logs(logs.examine, len(logging.LogRecord("", 0, "", 0, "", (), None).__dict__))
    monkeypatch.setattr(recording, "_sanitizer", sanitizer)

    def write(arguments: Any) -> None:
        given = (arguments,) if isinstance(arguments, dict) else arguments
        recorder.log(logging.LogRecord("app", 20, "app.py", 7, template, given, None, "serve"))

    for _ in range(3):
        write(harmless)
    write(secret)
    assert box.filename is not None
    *before, last = [event.name for event in read_box(box.filename).events]
    assert before == [redact.text(template % harmless)] * 3
    assert last == redact.text(template % secret) != template % secret


@_some
@given(st.dictionaries(_texts, st.one_of(_texts, st.integers(), st.floats(), st.none(), st.booleans()), max_size=4))
def test_no_field_of_a_secret_name_keeps_its_value(fields: dict[str, Any]) -> None:
    _, cleaned = Sanitizer().event("name", fields)
    for key, value in fields.items():
        if key != "key" and redact.secret_name(key) and value is not None and type(value) is not bool:
            assert redact.REDACTED in [shown for name, shown in cleaned.items()]
