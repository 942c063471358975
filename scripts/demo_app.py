"""A small WSGI shop that records what it does. `scripts/demo` serves it with gunicorn and gevent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import mmdebug
import mmdebug.manhole
import mmstats


class ShopStats(mmstats.MmStats):
    requests = mmstats.CounterField(help="Requests answered", labelnames=("method", "status"))
    latency = mmstats.HistogramField(unit="seconds", help="Time to answer")
    in_flight = mmstats.GaugeField(help="Requests being answered")
    items_sold = mmstats.CounterField(help="Items sold")
    render = mmstats.TimerField(help="Time to render a page")
    last_route = mmstats.StringField(size=120, help="The request that came last")


class Index:
    """What `/rebuild` makes anew, without ever letting the hub have its turn."""

    def __init__(self) -> None:
        self.cancelled = False

    def rebuild(self) -> None:
        give_up = time.monotonic() + 60
        while not self.cancelled and time.monotonic() < give_up:
            pass

    def cancel(self) -> bool:
        self.cancelled = True
        return self.cancelled


stats = ShopStats(service="shop")
log = logging.getLogger("shop")
orders: list[str] = []
index = Index()
mmdebug.manhole.install(namespace={"orders": orders, "index": index})


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    stats.last_route = f"{method} {path}"
    with mmdebug.activity(f"{method} {path}"), stats.in_flight.track_inprogress(), stats.latency.time():
        status, body = respond(method, path)
    # Counted before it is sent: whoever has the answer in hand finds it in the stats.
    stats.requests.labels(method=method, status=status.split()[0]).inc()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def respond(method: str, path: str) -> tuple[str, bytes]:
    if path == "/report":
        mmdebug.event("report.begun", rows=120_000)
        time.sleep(120)  # under gevent: other requests go on
    if path == "/rebuild":
        index.rebuild()  # nothing goes on
        return "200 OK", b"rebuilt\n"
    if path == "/basket" and method == "POST":
        orders.append(time.strftime("%H:%M:%S"))
        stats.items_sold.inc()
        return "201 Created", b"sold\n"
    if path.startswith("/items/"):
        with stats.render:
            time.sleep(0.002)
        return "200 OK", b"an item\n"
    if path == "/":
        return "200 OK", b"welcome\n"
    log.warning("no page %s", path)
    return "404 Not Found", b"no such page\n"
