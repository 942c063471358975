"""Post-mortems made by hand, for tests of what reads them: no process, no file."""

from __future__ import annotations

import struct
from collections.abc import Callable

from mmdebug.diagnosis import Cause, Verdict
from mmdebug.postmortem import PostMortem
from mmdebug.records import (
    Activity,
    Box,
    CapturedError,
    Event,
    ExceptionRecord,
    Exit,
    Fault,
    FaultFrame,
    FaultThread,
    Frame,
    ParkedGroup,
    Sample,
)  # fmt: skip
from mmstats import layout
from mmstats.process import Life
from mmstats.reader import Snapshot
from mmstats.schema import schema_of

SECOND = 1_000_000_000
#: When the examples died.
END = 1_700_000_000 * SECOND
MAIN = 0x7F0001

Text = Callable[[str], str]


def snapshot(
    numbers: dict[str, float],
    *,
    counters: tuple[str, ...] = (),
    texts: dict[str, str] | None = None,
    identity: dict[str, tuple[str, ...]] | None = None,
    pid: int = 4242,
    path: str = "/stats/web-4242-0badcafe.mmstats",
    created: int = END - 3600 * SECOND,
    heartbeat: int = END,
    alive: bool | None = False,
    closed: int = 0,
    help: str = "",
    problems: tuple[str, ...] = (),
) -> Snapshot:
    """A stat file that was never written: gauges and counters as floats, texts of up to 4096 bytes."""
    numbers = {_encodable(name): number for name, number in numbers.items()}
    texts = {_encodable(name): _encodable(text) for name, text in (texts or {}).items()}
    counters = tuple([_encodable(name) for name in counters])
    first = layout.HEADER_BYTES
    facts = b"".join([layout.encode_identity(key, values) for key, values in (identity or {}).items()])
    families = [
        layout.Family(name, "counter" if name in counters else "gauge", "f64", "sum", help=_encodable(help))
        for name in numbers
    ]
    columns = (layout.Column("text", "text", 4096),)
    families += [layout.Family(name, "text", "buffered", "all", columns=columns) for name in texts]
    definitions, data, at = b"", b"", 1 << 16
    for number, family in enumerate(families):
        definitions += layout.encode_family(number, family) + layout.encode_series(number, (), at + len(data))
        if family.kind == "text":
            data += bytes(family.cell_size)
        else:
            data += struct.pack("<d", numbers[family.name])
    raws = tuple([(len(text.encode()), text.encode().ljust(4096, b"\0")) for text in texts.values()])
    header = layout.Header(
        0, first, first, layout.CLOSED if closed else layout.LIVE, bytes(range(16)), created, closed, heartbeat, pid
    )
    return Snapshot(
        path, header, schema_of(definitions), bytes(first) + facts, data, raws,
        Life(alive, "made for a test"), 4096, problems,
    )  # fmt: skip


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def frame(text: Text, name: str, line: int) -> Frame:
    source = ((line - 1, text("    def before(self):")), (line, text("        return value / count")))
    values = {text("count"): text("0"), text("value"): text("[1, 2, 3] (and 997 more)")}
    return Frame(text(f"/srv/shop/{name}.py"), text(name), line, source, values, 2)


def error(text: Text, depth: int = 0) -> CapturedError:
    """An exception of five frames with a note, a cause, and a group of two as its context's."""
    frames = tuple([frame(text, name, 10 + i) for i, name in enumerate(("serve", "handle", "view", "total", "mean"))])
    if depth:
        return CapturedError(text("KeyError"), text("'price'"), frames[:2])
    part = CapturedError(text("shop.Refused"), text("no such part"), frames[:1])
    group = CapturedError(text("ExceptionGroup"), text("two failed"), frames[:1], exceptions=(part, part))
    context = CapturedError(text("LookupError"), text("not there"), frames[:1], context=group, exceptions_cut=1)
    cause = CapturedError(text("KeyError"), text("'price'"), frames[:2], context=context)
    return CapturedError(
        text("ZeroDivisionError"), text("division by zero"), frames, 7, (text("while totting up"),), cause
    )


def rich(text: Text = str) -> PostMortem:
    """A worker that died in the middle of things; each text in it has gone through `text`."""
    events = [
        Event(END - (40 - i) * SECOND, "info", "log", text(f"GET /item/{i}"),
              {text("status"): 200, text("to"): text("ann bob")}, text("shop.access"), text("views.py:12 index"), MAIN)
        for i in range(30)
    ]  # fmt: skip
    events.insert(0, Event(END - 200 * SECOND, "error", "log", text("can't reach the till"), {}, text("shop.till")))
    events += [
        Event(END - 3 * SECOND, "debug", "event", text("cache.miss"), {text("key"): text("k1"), text("hot"): True}),
        Event(END - 312_000_000, "warning", "log", text("slow query"), {text("seconds"): 2.5, text("n"): None},
              text("shop.db"), text("db.py:77 query"), MAIN, 0xBEEF, True),
        Event(END - 100_000_000, "error", "note", text("it is over"), {}, cut=True),
    ]  # fmt: skip
    records = (
        ExceptionRecord(text("ZeroDivisionError"), text("mean.py:14 mean"), text("main thread"), 1, END - SECOND,
                        END - SECOND, MAIN, 0, True, error(text)),
        ExceptionRecord(text("TimeoutError"), text("till.py:3 call"), text("captured"), 1234, END - 900 * SECOND,
                        END - 5 * SECOND, MAIN, 0xBEEF, False, error(text, 1)),
        ExceptionRecord(text("OSError"), text("disk.py:9 put"), text("thread"), 2, END - 90 * SECOND,
                        END - 50 * SECOND),
    )  # fmt: skip
    box = Box(
        path="/stats/web-4242-0badcafe.box",
        activities=(
            Activity(text("GET /total/<id>"), END - 12_345_000_000, {text("user"): 42}, MAIN),
            Activity(text("SELECT"), END - 2_500_000_000, {text("table"): text("items")}, MAIN, 0, 1),
            Activity(text("refresh"), END - 400 * SECOND, {}, 0x7F0002, 0xBEEF, 0, True),
        ),
        events=tuple(events),
        exceptions=records,
        samples=tuple(
            [Sample(END - (60 - i) * SECOND, {"rss": 5e7 + i * 2e6, "cpu": 100.0 + i / 2, "lag": i / 1e4,
                    text("fds"): 12}, (text("requests"), text("queue")), i % 3) for i in range(60)]
        ),
        threads={MAIN: text("MainThread"), 0x7F0002: text("refresher")},
        facts={text("recorder"): text("on")},
        lost={text("info events"): 12345, "debug events": 0},
        problems=(text("a record was cut off"),),
        parked=(
            ParkedGroup("greenlet", 1200, (FaultFrame(text("pool.py"), 9, text("run")), FaultFrame("q.py", 7, "get"))),
            ParkedGroup(text("task"), 3, ()),
        ),
        parked_at=END - 4 * SECOND,
    )  # fmt: skip
    calls = tuple([FaultFrame(text(f"/srv/shop/{name}.py"), 5, text(name)) for name in ("total", "view")])
    headline = text("Fatal Python error: Segmentation fault")
    fault = Fault(headline, (FaultThread(MAIN, True, calls, text("MainThread")), FaultThread(7, False, calls[:1])),
                  f"{headline}\n{text('Thread 0x00007f0001:')}")  # fmt: skip
    identity = {
        "service": (text("web"),), "host": (text("web-7"),), "uid": ("1000",), "python": (text("cpython 3.12.1"),),
        "argv": (text("gunicorn"), text("shop:app")), "environ": ("WEB_CONCURRENCY=" + text("4"), "TZ=" + text("UTC")),
    }  # fmt: skip
    numbers = {text("requests"): 36000.0, text("queue"): 950.0, text("steady"): 5.0}
    stats = snapshot(
        numbers, counters=(text("requests"),), texts={text("mode"): text("rw")}, identity=identity,
        path=f"/stats/{text('web')}-4242-0badcafe.mmstats", help=text("What it is"), problems=(text("a hole"),),
    )  # fmt: skip
    siblings = tuple(
        [
            snapshot({text("requests"): 36000.0 + i * 100, text("queue"): 3.0 + i, text("steady"): 5.0},
                     counters=(text("requests"),), pid=5000 + i, alive=True,
                     path=f"/stats/web-{5000 + i}-0badcafe.mmstats")
            for i in range(3)
        ]
    )  # fmt: skip
    verdict = Verdict(
        "died",
        text("It was killed by the kernel because its memory was over the limit of its cgroup."),
        (
            Cause("oom_killed", text("the kernel killed it for memory"), "certain",
                  (text("the cgroup's oom_kill counter rose from 3 to 4"), text("SIGKILL, not sent by its parent")),
                  (text("its memory was 92 % of the limit when it was last looked at"),)),
            Cause("killed", text("somebody sent SIGKILL"), "possible", (text("SIGKILL"),), ()),
        ),
        END - 300_000_000, END + 2 * SECOND,
    )  # fmt: skip
    return PostMortem(stats.path, stats.process, verdict, stats, box, fault, Exit(9, END, 1, text("master")), siblings,
                      stats.problems + box.problems)  # fmt: skip


def bare() -> PostMortem:
    """A process that left next to nothing."""
    stats = snapshot({}, heartbeat=0, created=0, pid=7)
    return PostMortem(stats.path, stats.process, Verdict("unknown", "Whether it is dead can't be told."), stats)
