"""The public API used as a program uses it. Not run: `mypy --strict` reads it."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, assert_type

import mmstats
from mmstats import cells, values
from mmstats.reader import Process


class WebStats(mmstats.MmStats):
    requests = mmstats.CounterField(help="Requests served", labelnames=("method", "code"))
    total = mmstats.CounterField(label="requests.total", unit="requests", aggregate="sum")
    cpu = mmstats.CounterField(type=float, unit="seconds")
    active = mmstats.GaugeField(aggregate="max")
    latency = mmstats.HistogramField(buckets=(0.1, 1, 10), unit="seconds")
    sizes = mmstats.HistogramField(buckets=mmstats.exponential_buckets(1, 2, 10), labelnames="page")
    render = mmstats.TimerField()
    clocked = mmstats.TimerField(timer=lambda: 0.0, size=10)
    mean = mmstats.AverageField()
    moving = mmstats.MovingAverageField(size=10)
    byte = mmstats.ByteField()
    number = mmstats.Int64Field(aggregate="last")
    ratio = mmstats.DoubleField()
    single = mmstats.FloatField()
    ready = mmstats.BoolField(initial=True)
    release = mmstats.StringField(40)
    phase = mmstats.EnumField(states=["starting", "serving"])
    build = mmstats.InfoField()
    pool = mmstats.StructField({"used": int, "name": (str, 20)})
    port = mmstats.StaticUIntField(value=80)
    version = mmstats.StaticTextField(value=lambda: "1.2")


def record() -> None:
    stats = WebStats(service="web", strict=True)
    WebStats("/var/run/stats", "{CMD}-{PID}.mmstats", "web.")
    assert_type(WebStats.total, mmstats.CounterField)
    assert_type(WebStats.render, mmstats.TimerField)
    assert_type(WebStats.ratio, mmstats.DoubleField)

    stats.total.inc()
    stats.total.inc(2)
    stats.total.incr(amount=3)
    stats.total.value = 7
    stats.total.value += 1
    assert_type(stats.total.value, int)
    assert_type(stats.requests.labels("GET", 200), cells.Counter)
    stats.requests.labels(method="GET", code=200).inc()
    stats.cpu.inc(0.5)
    with stats.total.count_exceptions(ValueError):
        pass

    stats.active.set(1)
    stats.active.inc()
    stats.active.dec(0.5)
    stats.active.set_to_current_time()
    assert_type(stats.active.value, float)
    with stats.active.track_inprogress():
        pass

    stats.latency.observe(0.2)
    with stats.latency.time() as timing:
        assert_type(timing.elapsed, float)
    assert_type(stats.latency.count, int)
    assert_type(stats.latency.sum, float)
    stats.sizes.labels("home").observe(3)

    with stats.render as context:
        assert_type(context.elapsed, float)
    stats.render.start()
    assert_type(stats.render.stop(), float)
    assert_type(stats.render.last, float)
    assert_type(stats.clocked.value, float)

    stats.mean.add(1)
    stats.moving.add(1.5)
    assert_type(stats.mean.value, float)
    assert_type(stats.moving.value, float)
    assert_type(stats.moving.last, float)

    assert_type(stats.byte, int)
    assert_type(stats.ratio, float)
    assert_type(stats.single, float)
    assert_type(stats.ready, bool)
    assert_type(stats.release, str)
    stats.byte = 1
    stats.byte += 1
    stats.number = -5
    stats.ratio = 0.5
    stats.ratio = 1
    stats.single = 0.5
    stats.ready = False
    stats.release = "abc"
    stats.release = b"abc"

    stats.phase.state("serving")
    assert_type(stats.phase.value, str)
    stats.build.info({"version": "1", "workers": 4})
    assert_type(stats.build.value, dict[str, str])
    stats.pool.set(used=3, name="main")
    assert_type(stats.pool.value, dict[str, Any])

    assert_type(stats.port, int)
    assert_type(stats.version, str)
    assert_type(stats.pid, int)
    assert_type(stats.python_version, str)
    assert_type(stats.created, float)

    late = stats.add_field("late", mmstats.CounterField())
    late.inc()
    assert_type(stats.filename, str)
    assert_type(stats.label_prefix, str)
    assert_type(stats.size, int)
    stats.flush()
    stats.remove()


stats = WebStats()


@stats.render
def rendered(page: str, depth: int = 0) -> bytes:
    return page.encode() * depth


@stats.latency.time()
async def awaited(page: str) -> bytes:
    return page.encode()


@stats.active.track_inprogress()
@stats.total.count_exceptions()
def counted(page: str) -> int:
    return len(page)


async def decorated() -> None:
    assert_type(rendered("home", depth=2), bytes)
    assert_type(await awaited("home"), bytes)
    assert_type(counted("home"), int)


def read(path: str) -> None:
    snapshot = mmstats.read(path)
    mmstats.read(pathlib.Path(path))
    assert_type(snapshot, mmstats.Snapshot)
    assert_type(snapshot.process, Process)
    assert_type(snapshot.process.pid, int)
    assert_type(snapshot.process.argv, tuple[str, ...])
    assert_type(snapshot.process.environ, Mapping[str, str])
    assert_type(snapshot.alive, bool | None)
    assert_type(snapshot.created, int | None)
    assert_type(snapshot.problems, tuple[str, ...])
    for name, value in snapshot.items():
        assert_type(name, str)
        assert_type(value.kind, str)
        assert_type(value.unit, str)
        assert_type(value.aggregate, str)
    latency = snapshot["latency"]
    if isinstance(latency, values.HistogramValue):
        assert_type(latency.quantile(0.99), float | None)
        assert_type(latency.buckets, tuple[int, ...])
        assert_type(latency.mean, float | None)
    requests = snapshot["requests"]
    if isinstance(requests, values.LabelledValue):
        assert_type(requests["GET", "200"], values.Value)
        assert_type(requests.labels(method="GET", code=200), values.Value)
        assert_type(requests.labelnames, tuple[str, ...])
    assert_type(snapshot.to_dict(), dict[str, Any])


def read_many() -> None:
    fleet = mmstats.read_all(service="web")
    assert_type(fleet, mmstats.Fleet)
    assert_type(fleet.alive.dead, mmstats.Fleet)
    assert_type(fleet.where(lambda snapshot: snapshot.process.pid > 1), mmstats.Fleet)
    assert_type(fleet.problems, dict[str, str])
    for label, snapshot in fleet.items():
        assert_type(label, str)
        assert_type(snapshot, mmstats.Snapshot)
    merged = fleet.merge()
    assert_type(merged, mmstats.Merged)
    assert_type(merged.processes, int)
    assert_type(merged.problems, tuple[str, ...])
    assert_type(merged["requests"].kind, str)


def errors() -> None:
    try:
        mmstats.read("missing")
    except mmstats.FormatError as error:
        assert_type(error, mmstats.FormatError)
    except (mmstats.ReadError, mmstats.MmStatsError):
        raise
