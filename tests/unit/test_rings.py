"""Rings and slots in private memory: what is kept, what is overwritten, what is refused."""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdebug import layout, rings
from mmdebug.sanitize import Sanitizer
from mmstats import forks

CAPACITY = 16384
RING = layout.RingFamily("x", CAPACITY)
SLOTS = layout.SlotsFamily("a", 4, 256)


class Memory:
    """A recorder whose rings and slots lie in this test's own memory."""

    def __init__(self) -> None:
        forks.watch(lambda: None)
        self.sanitizer = Sanitizer()
        self.recorder = rings.Recorder(self.sanitizer)
        self.views: list[memoryview] = []
        made = [self._bind(rings.Ring(None, None, CAPACITY), RING) for _ in range(5)]
        slots = self._bind(rings.Slots(None, None, SLOTS.count, SLOTS.size), SLOTS)
        self.recorder.switch_on(made[:4], made[4], slots)

    def _bind(self, cell: Any, family: Any) -> Any:
        view = memoryview(bytearray(family.cell_size))
        cell.forget()
        assert cell.bind(view, 0)
        cell.reset()
        self.views.append(view)
        return cell

    def ring(self, severity: str = "info") -> list[layout.RingRecord]:
        view = self.views[("debug", "info", "warning", "error").index(severity)]
        state = layout.decode_ring_state(bytes(view), RING)
        found, damaged = layout.decode_ring(bytes(view[layout.HEAD :]), state, state.tail)
        assert not damaged
        return found

    def slots(self) -> list[layout.SlotRecord]:
        data = bytes(self.views[5])
        found, damaged = layout.decode_slots(data, data, data, SLOTS)
        assert not damaged
        return found

    @property
    def overflow(self) -> int:
        return int.from_bytes(self.views[5][16:24], "little")


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_an_event_keeps_its_name_and_its_fields(memory: Memory) -> None:
    memory.recorder.event("cache.miss", key="k1", size=-12, ratio=0.5, hit=False, owner=None, name_="é")
    (record,) = memory.ring()
    assert record.kind == layout.EVENT
    assert record.fields == [
        ("", "cache.miss"), ("key", "k1"), ("size", -12), ("ratio", 0.5), ("hit", False), ("owner", None),
        ("name_", "é"),
    ]  # fmt: skip
    assert not record.cut
    assert record.thread == threading.get_ident()
    assert record.time > 1_500_000_000 * 10**9


@pytest.mark.parametrize("severity", ["debug", "info", "warning", "error"])
def test_each_severity_has_a_ring_of_its_own(memory: Memory, severity: str) -> None:
    memory.recorder.event("x", severity=severity, a=1)
    assert [record.fields for record in memory.ring(severity)] == [[("", "x"), ("a", 1)]]
    assert sum(len(memory.ring(other)) for other in ("debug", "info", "warning", "error")) == 1


def test_a_flood_of_one_severity_leaves_the_others(memory: Memory) -> None:
    memory.recorder.event("the last error", severity="error")
    for number in range(5000):
        memory.recorder.event("noise", number=number)
    assert [record.fields[0][1] for record in memory.ring("error")] == ["the last error"]
    numbers = [dict(record.fields)["number"] for record in memory.ring()]
    assert numbers == list(range(5000))[-len(numbers) :]
    assert len(numbers) > 100


def test_what_is_too_long_is_cut_and_says_so(memory: Memory) -> None:
    memory.recorder.event("x" * 5000, text="é" * 2000)
    (record,) = memory.ring()
    assert record.cut
    assert record.fields[0][1] == "x" * layout.MAX_NAME
    text = record.fields[1][1]
    assert isinstance(text, str)
    assert set(text) == {"é"}
    assert len(text.encode()) <= layout.MAX_TEXT


def test_fields_beyond_a_records_size_are_left_out_and_it_says_so(memory: Memory) -> None:
    memory.recorder.event("x", **{f"f{i}": "v" * 400 for i in range(40)})
    (record,) = memory.ring()
    assert record.cut
    assert 5 < len(record.fields) < 40


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, 1 << 5000, [1, 2], {"a": 1}, b"x", object(), "\ud800"])
def test_any_value_can_be_given(memory: Memory, value: Any) -> None:
    memory.recorder.event("x", value=value)
    (record,) = memory.ring()
    assert isinstance(record.fields[1][1], str)


@pytest.mark.parametrize("value", [(1 << 63) - 1, -(1 << 63), 0, -1])
def test_every_integer_of_64_bits_is_kept(memory: Memory, value: int) -> None:
    memory.recorder.event("x", value=value)
    assert memory.ring()[0].fields[1] == ("value", value)


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def test_a_value_that_refuses_to_be_shown_does_no_harm(memory: Memory) -> None:
    memory.recorder.event("x", value=Rude())
    assert "Rude" in str(memory.ring()[0].fields[1][1])


def test_a_secret_by_its_name_or_its_form_is_not_kept(memory: Memory) -> None:
    for _ in range(3):  # the first time it is looked at, later it is known
        memory.recorder.event("login", password="hunter2", url="https://bob:tiger@host/", token=12345)
        with memory.recorder.activity("password=hunter2", api_key="sesame"):
            assert b"hunter2" not in bytes(memory.views[5])
            assert b"sesame" not in bytes(memory.views[5])
    everything = b"".join([bytes(view) for view in memory.views])
    assert b"hunter2" not in everything
    assert b"tiger" not in everything
    assert dict(memory.ring()[0].fields)["token"] == "[redacted]"


FIELDS = st.dictionaries(st.text(min_size=1, max_size=80), st.text(max_size=900), max_size=6)


@given(st.lists(st.tuples(st.text(max_size=300), FIELDS), max_size=40))
def test_whatever_is_written_the_ring_reads(events: list[tuple[str, dict[str, str]]]) -> None:
    memory = Memory()
    for name, fields in events:
        fields.pop("severity", None)
        memory.recorder.event(name, **fields)
    found = memory.ring()
    assert len(found) <= len(events)
    if events:
        assert found


def test_a_ring_wraps_at_every_place(memory: Memory) -> None:
    rng = random.Random(7)
    written = []
    for number in range(20_000):
        memory.recorder.event("n" * rng.randrange(1, 900), number=number)
        written.append(number)
        if number % 500 == 0:
            numbers = [dict(record.fields)["number"] for record in memory.ring()]
            assert numbers == written[-len(numbers) :]


def test_a_ring_that_somebody_wrote_into_begins_afresh(memory: Memory) -> None:
    for number in range(2000):
        memory.recorder.event("before", number=number)
    memory.views[1][layout.HEAD :] = b"\xff" * CAPACITY
    for number in range(1000):
        memory.recorder.event("after", number=number)
    found = memory.ring()
    assert {record.fields[0][1] for record in found} == {"after"}
    assert [dict(record.fields)["number"] for record in found] == list(range(1000))[-len(found) :]


def test_threads_write_whole_records(memory: Memory) -> None:
    def write(thread: int) -> None:
        for number in range(3000):
            memory.recorder.event("t", thread=thread, number=number, text="x" * (number % 60))

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last: dict[Any, Any] = {}
    for record in memory.ring():
        fields = dict(record.fields)
        assert fields["text"] == "x" * (fields["number"] % 60)  # type: ignore[operator]
        assert fields["number"] > last.get(fields["thread"], -1)  # type: ignore[operator]
        last[fields["thread"]] = fields["number"]
    assert len(memory.ring()) > 50


# Activities.


def test_an_activity_is_there_while_it_lasts(memory: Memory) -> None:
    assert memory.slots() == []
    with memory.recorder.activity("GET /users/<id>", user=42):
        (slot,) = memory.slots()
        assert slot.fields == [("", "GET /users/<id>"), ("user", 42)]
        with memory.recorder.activity("sql"):
            assert [inner.fields[0][1] for inner in memory.slots()] == ["GET /users/<id>", "sql"]
    assert memory.slots() == []


def test_slots_are_used_again_and_what_finds_none_is_counted(memory: Memory) -> None:
    for _ in range(3):
        with memory.recorder.activity("a"), memory.recorder.activity("b"), memory.recorder.activity("c"):
            assert len(memory.slots()) == 3
    assert memory.overflow == 0
    open_ones = [memory.recorder.activity("x") for _ in range(6)]
    for activity in open_ones:
        activity.__enter__()
    assert (len(memory.slots()), memory.overflow) == (4, 2)
    for activity in open_ones:
        activity.__exit__(None, None, None)
    assert memory.slots() == []
    with memory.recorder.activity("again"):
        assert len(memory.slots()) == 1


def test_an_activity_that_raises_is_over(memory: Memory) -> None:
    with pytest.raises(ZeroDivisionError), memory.recorder.activity("x"):
        raise ZeroDivisionError
    assert memory.slots() == []


def test_leaving_twice_does_not_give_a_slot_away(memory: Memory) -> None:
    first = memory.recorder.activity("first")
    first.__enter__()
    first.__exit__(None, None, None)
    second = memory.recorder.activity("second")
    second.__enter__()
    first.__exit__(None, None, None)
    assert [slot.fields[0][1] for slot in memory.slots()] == ["second"]


def test_as_a_decorator_each_call_is_an_activity(memory: Memory) -> None:
    seen = []

    @memory.recorder.activity("job", queue="low")
    def job(depth: int) -> int:
        seen.append(len(memory.slots()))
        return job(depth - 1) if depth else 7

    assert job(2) == 7
    assert seen == [1, 2, 3]
    assert memory.slots() == []


def test_a_long_activity_is_cut_and_says_so(memory: Memory) -> None:
    with memory.recorder.activity("x" * 1000, a=1):
        (slot,) = memory.slots()
        assert slot.cut
        assert set(str(slot.fields[0][1])) == {"x"}
    with memory.recorder.activity("x", a="y" * 1000, b=2):
        assert memory.slots()[0].cut


def test_a_secret_found_in_fields_after_a_plain_name_is_redacted(memory: Memory) -> None:
    with memory.recorder.activity("plain", url="https://bob:tiger@host/"):
        fields = dict(memory.slots()[0].fields)
    assert fields["url"] == "https://[redacted]@host/"


def test_nothing_happens_while_the_recorder_is_off(memory: Memory) -> None:
    memory.recorder.switch_off()
    memory.recorder.event("x")
    with memory.recorder.activity("x"):
        assert memory.slots() == []
    assert memory.ring() == []


# Which greenlet or task.


@pytest.fixture
def contexts() -> Iterator[None]:
    yield
    rings.set_contexts(None, None, None)


@pytest.mark.usefixtures("contexts")
def test_records_say_which_greenlet_or_task_they_are_of(memory: Memory) -> None:
    greenlet, loop, task = object(), object(), object()
    rings.set_contexts(lambda: greenlet, None, None)
    memory.recorder.event("x")
    rings.set_contexts(lambda: greenlet, lambda: loop, lambda of: task if of is loop else None)
    memory.recorder.event("x")
    rings.set_contexts(lambda: greenlet, lambda: None, None)
    memory.recorder.event("x")
    assert [record.context for record in memory.ring()] == [id(greenlet), id(task), id(greenlet)]


# Log records.


@pytest.fixture
def logger(memory: Memory) -> Iterator[logging.Logger]:
    from mmdebug import logs, recorder

    class Handler(logs.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.handle = memory.recorder.log  # type: ignore[method-assign]

    before = recorder._sanitizer
    recorder._sanitizer = memory.sanitizer
    memory.recorder.set_logs(logs.examine, len(logs._STANDARD))
    logger = logging.Logger("app.views")
    logger.addHandler(Handler())
    yield logger
    recorder._sanitizer = before


def test_a_log_record_keeps_its_level_logger_place_and_message(memory: Memory, logger: logging.Logger) -> None:
    for _ in range(2):
        logger.warning("slow %s in %d ms", "query", 12)
    for record in memory.ring("warning"):
        assert record.kind == layout.LOG
        assert [value for _, value in record.fields[:3]] == ["slow query in 12 ms", "app.views", "test_rings.py"]
        assert record.fields[4][1] == "test_a_log_record_keeps_its_level_logger_place_and_message"
    assert len(memory.ring("warning")) == 2


@pytest.mark.parametrize(
    ("level", "ring"),
    [(5, "debug"), (10, "debug"), (20, "info"), (25, "info"), (30, "warning"), (40, "error"), (50, "error")],
)
def test_levels_go_to_the_rings_of_their_severity(
    memory: Memory, logger: logging.Logger, level: int, ring: str
) -> None:
    logger.log(level, "x")
    assert len(memory.ring(ring)) == 1


def test_extra_fields_are_kept_and_secrets_in_them_are_not(memory: Memory, logger: logging.Logger) -> None:
    logger.info("login", extra={"user": "bob", "password": "hunter2", "items": [1, 2]})
    fields = dict(memory.ring()[0].fields[5:])
    assert fields == {"user": "bob", "password": "[redacted]", "items": "[1, 2]"}


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("password=%s", ("hunter2",)),
        ("%s=%s", ("password", "hunter2")),
        ("connect to %s", ("postgres://bob:hunter2@db/x",)),
        ("Authorization: Bearer %s", ("hunter2hunter2",)),
        ("%(password)s for %(a)s: password=%(password)s", ({"password": "hunter2", "a": 1},)),
        ("token%s%s", ("=", "hunter2")),
    ],
)
def test_a_secret_in_a_log_message_is_not_kept(
    memory: Memory, logger: logging.Logger, message: str, arguments: tuple[Any, ...]
) -> None:
    for _ in range(3):
        logger.info(message, *arguments)
    texts = [str(record.fields[0][1]) for record in memory.ring()]
    assert len(texts) == 3
    assert not any("=hunter2" in text or ":hunter2" in text or "Bearer hunter2" in text for text in texts), texts


def test_arguments_that_do_not_fit_do_no_harm(memory: Memory, logger: logging.Logger) -> None:
    logger.info("%d and %s", "x")
    logger.info("%s", Rude())
    logger.info(Rude())
    assert len(memory.ring()) == 3


def test_what_a_formatter_left_in_a_record_is_no_extra_field(memory: Memory, logger: logging.Logger) -> None:
    class First(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logging.Formatter("%(asctime)s %(message)s").format(record)

    logger.handlers.insert(0, First())
    for _ in range(2):
        logger.info("x %s", 1)
    assert [len(record.fields) for record in memory.ring()] == [5, 5]


def test_a_handler_with_a_filter_obeys_it(memory: Memory, logger: logging.Logger) -> None:
    from mmdebug import logs, recorder

    handler = logs.Handler()
    handler.addFilter(lambda record: record.getMessage() != "no")
    seen = []
    original = recorder.recorder
    logs.recorder = type("R", (), {"log": staticmethod(seen.append)})()  # type: ignore[assignment]
    try:
        for text in ("yes", "no"):
            handler.handle(logging.LogRecord("x", 20, "f", 1, text, (), None))
    finally:
        logs.recorder = original
    assert [record.getMessage() for record in seen] == ["yes"]


def test_where_opentelemetry_is_in_use_a_log_record_has_its_trace(
    memory: Memory, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from mmdebug import logs

    context = SimpleNamespace(trace_id=0xABC)
    span = SimpleNamespace(get_span_context=lambda: context)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", SimpleNamespace(get_current_span=lambda: span))
    memory.recorder.set_logs(logs.examine, -1)  # as `configure` does once it is imported
    logger.info("within a trace")
    context.trace_id = 0
    logger.info("outside of one")
    assert [dict(record.fields[5:]) for record in memory.ring()] == [{"trace_id": f"{0xABC:032x}"}, {}]
