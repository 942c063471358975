"""The stacks of what waits: greenlets and tasks, grouped, sampled while alive, read after a death."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Program, wait_for

import mmdebug
from mmdebug import parked
from mmdebug.records import FaultFrame, ParkedGroup
from mmstats.errors import FormatError

GREENLETS = """
from gevent import monkey; monkey.patch_all()
import gevent, gevent.event
import mmdebug
mmdebug.install(service="web", parked=True, interval=0.05)
never = gevent.event.Event()
def wait_for_the_bus():
    never.wait()
def read_the_paper():
    gevent.sleep(1000)
many = [gevent.spawn(wait_for_the_bus) for _ in range(30)] + [gevent.spawn(read_the_paper)]
gevent.sleep(0.2)
print("ready", flush=True)
gevent.sleep(1000)
"""

TASKS = """
import asyncio, mmdebug
mmdebug.install(service="web", parked=True, interval=0.05)
async def inner():
    await asyncio.Event().wait()
async def wait_for_the_bus():
    await inner()
async def main():
    many = [asyncio.create_task(wait_for_the_bus()) for _ in range(7)]
    await asyncio.sleep(0.2)
    print("ready", flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


@pytest.mark.parametrize(("source", "kind", "count"), [(GREENLETS, "greenlet", 30), (TASKS, "task", 7)])
def test_what_waited_is_told_after_a_kill(
    run: Callable[..., Program], home: Path, source: str, kind: str, count: int
) -> None:
    # The first look may come before anything waits, and the next one only after ten seconds.
    program = run(
        source.replace(
            "mmdebug.install(", "import mmdebug.sampler as s; s.CLOSELY = 0.1; s.runtime.SHARE = 1; mmdebug.install("
        )
    )
    program.line()
    found = mmdebug.process("web", home)

    def groups() -> dict[str, int]:
        box = found.box
        assert box is not None
        return {frame.function: group.count for group in box.parked if group.kind == kind for frame in group.frames}

    wait_for(lambda: groups().get("wait_for_the_bus") == count)
    program.kill()
    box = found.postmortem().box
    assert box is not None
    assert box.parked_at > (found.stats.created or 0)
    assert groups()["wait_for_the_bus"] == count
    if kind == "greenlet":
        assert groups()["read_the_paper"] == 1
    else:
        assert groups()["inner"] == count


def test_nothing_is_sampled_unless_it_is_asked_for(run: Callable[..., Program], home: Path) -> None:
    program = run(GREENLETS.replace("parked=True, ", ""))
    program.line()
    box = mmdebug.process("web", home).box
    assert box is not None
    assert (box.parked, box.parked_at) == ((), 0)


FRAMES = st.builds(FaultFrame, st.text(max_size=50), st.integers(0, 10**6), st.text(max_size=50))
GROUPS = st.lists(
    st.builds(ParkedGroup, st.text(max_size=9), st.integers(0, 10**9), st.lists(FRAMES, max_size=12).map(tuple)),
    max_size=20,
)


@given(GROUPS, st.integers(2, 20_000))
def test_groups_come_back_as_many_as_fit(groups: list[ParkedGroup], limit: int) -> None:
    text = parked.encode(groups, limit)
    assert len(text.encode()) <= limit
    found = parked.decode(text)
    assert list(found) == groups[: len(found)]
    if limit == 20_000 and len(repr(groups)) < 5000:
        assert len(found) == len(groups)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[["a",1]]', '[["a","1",[]]]', '[["a",1,[["f","x","g"]]]]', "[" * 100_000, '{"a":1}', "1"]
)
def test_what_is_no_list_of_groups_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parked.decode(text)
