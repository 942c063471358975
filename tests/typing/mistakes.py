"""What a type checker must refuse: each line that is commented `error` and no other one."""

from __future__ import annotations

import mmstats


class Stats(mmstats.MmStats):
    total = mmstats.CounterField()
    active = mmstats.GaugeField()
    number = mmstats.IntField()
    ready = mmstats.BoolField()
    release = mmstats.StringField()
    render = mmstats.TimerField()
    port = mmstats.StaticUIntField(value=80)


stats = Stats()
length: str = stats.port  # error
stats.total.inc("1")  # error
stats.total.observe(1)  # error
stats.total = 5  # error
stats.active.set("high")  # error
stats.active = 1.5  # error
stats.number = "1"  # error
stats.release = 5  # error
stats.render = 2.0  # error
stats.port = 81  # error
stats.pid = 1  # error
mmstats.CounterField(labelname="x")  # error
mmstats.StringField(20, help=5)  # error
mmstats.BoolField(name="x", label="y", labels=[])  # error
mmstats.HistogramField(buckets=["a"])  # error
mmstats.read(5)  # error


@stats.render
def render(page: str) -> str:
    return page


render(5)  # error
