"""A post-mortem as text and as a page: what is on it, and that nothing in a file can write anything else."""

from __future__ import annotations

import dataclasses
import io
import random
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
from examples import END, SECOND, bare, error, rich, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdebug import pages
from mmdebug.diagnosis import Verdict
from mmdebug.ending import end_of
from mmdebug.records import CapturedError, Event, Sample
from mmdebug.report import content, html, print_report
from mmdebug.report.timeline import timeline
from mmstats.commands.console import Console
from mmstats.errors import MmStatsError

NOW = END + 60 * SECOND


def text_of(found: Any, **options: Any) -> str:
    stream = io.StringIO()
    print_report(Console(stream, plain=True), found, now=NOW, width=100, **options)
    return stream.getvalue()


# The text.


def test_the_report_begins_with_the_verdict_and_its_evidence() -> None:
    shown = text_of(rich())
    assert shown.startswith("web, pid 4242: died\nIt was killed by the kernel")
    assert "+ SIGKILL, not sent by its parent" in shown
    assert "- its memory was 92 %" in shown
    assert "possible: somebody sent SIGKILL" in shown


def test_activities_have_their_age_at_the_end_and_stand_within_each_other() -> None:
    shown = text_of(rich())
    assert re.search(r"6m 40s +refresher / 0xbeef +refresh\n", shown)
    assert re.search(r"12\.345 s +MainThread +GET /total/<id> user=42\n", shown)
    assert re.search(r" 2\.500 s +MainThread +  SELECT table=items\n", shown)


def test_events_have_their_time_before_the_end() -> None:
    assert re.search(r"-0\.312 s +WARNING +shop\.db +slow query seconds=2\.5", text_of(rich()))


def test_an_old_error_is_shown_before_a_flood_of_newer_events() -> None:
    assert re.search(r"-3m 20s +ERROR +shop\.till", text_of(rich()))
    events = [Event(1, "error", "event", "first")] + [Event(i, "info", "event", f"e{i}") for i in range(2, 1000)]
    assert [event.name for event in content.chosen_events(events, 3, 2)] == ["first", "e998", "e999"]


def test_clients_that_came_and_went_take_no_room_from_events() -> None:
    came = Event(time=5, severity="info", kind="note", name="manhole.connected")
    events = [
        Event(time=1, severity="info", kind="event", name="begun"),
        *[dataclasses.replace(came, time=at) for at in (6, 7, 8)],
    ]
    assert [event.time for event in content.chosen_events(events, 2, 0)] == [1, 8]
    assert [event.time for event in content.chosen_events(events, 9, 0)] == [1, 6, 7, 8]


def test_the_fatal_exception_comes_first_with_its_innermost_frames_and_locals() -> None:
    shown = text_of(rich())
    fatal = shown.index("fatal: ZeroDivisionError: division by zero")
    assert fatal < shown.index("1,234x")
    assert 'File "/srv/shop/mean.py", line 14, in mean\n        return value / count\n        count = 0' in shown
    assert "/srv/shop/serve.py" not in shown and "(2 outer frames: --all shows them)" in shown
    assert "caused by KeyError: 'price'" in shown


def test_the_fault_tells_what_its_thread_was_in_the_middle_of() -> None:
    shown = text_of(rich())
    assert "Fatal Python error: Segmentation fault\n  in MainThread" in shown
    assert "it was in the middle of: SELECT table=items" in shown


def test_what_stands_out_against_the_siblings_is_named() -> None:
    assert re.search(r"queue +950 +4 \(3 to 5, of 3\)", text_of(rich()))
    assert not re.search(r"^ +steady", text_of(rich()), re.MULTILINE)


def test_without_siblings_the_stats_that_moved_last_are_shown() -> None:
    shown = text_of(dataclasses.replace(rich(), siblings=()))
    assert "The stats that moved last" in shown
    assert re.search(r"requests +36,000", shown) and "steady" not in shown


def test_what_the_program_counts_is_not_pushed_out_by_the_samplers_own_stats() -> None:
    found = rich()
    assert found.box is not None
    own = {f"runtime.{name}": 1.0 for name in ("rss", "cpu", "threads", "greenlets", "tasks", "fds")}
    box = dataclasses.replace(found.box, samples=(Sample(END, {}, ("runtime.rss", "runtime.cpu")),))
    shown = text_of(dataclasses.replace(found, siblings=(), box=box, stats=snapshot({**own, "zebras": 7.0})))
    assert re.search(r"Its last stats\n +zebras +7\n +runtime\.", shown)


def test_it_says_where_the_rest_is() -> None:
    shown = text_of(rich())
    for command in ("--html report.html", "--pdb", "mmdebug events ", "mmstats show "):
        assert command in shown


def test_it_fits_on_a_large_screen_and_no_line_is_longer_than_the_page() -> None:
    lines = text_of(rich(lambda text: text + " and so on" * 30)).splitlines()
    commands = lines[lines.index("Where to look for the rest") :]
    assert max(len(line) for line in lines if line not in commands) <= 100
    assert len(text_of(rich()).splitlines()) <= 80


def test_everything_shows_everything() -> None:
    long = "x" * 500
    shown = text_of(rich(lambda text: text + long), everything=True)
    assert "more" not in re.sub(r"\d+ more (locals|parts)|and \d+ more|997 more", "", shown)
    assert shown.count("GET /item/") == 30
    assert f"/srv/shop/serve{long[:0]}" in shown and "Samples of the runtime" in shown
    assert "…" not in shown


def test_of_a_process_without_a_recorder_it_says_how_to_switch_one_on() -> None:
    shown = text_of(bare())
    assert "-, pid 7: unknown" in shown
    assert "no recorder was on in it" in shown and "mmdebug.install()" in shown.replace("\n      ", " ")
    assert "Exceptions" not in shown and "The last events" not in shown


def test_an_unknown_time_of_death_is_called_unknown() -> None:
    assert "When it ended is not known." in text_of(bare())
    late = dataclasses.replace(rich(), exit=None)
    assert "its last sign of life: it ended after that, by 2.000 s at the most." in text_of(late).replace("\n  ", " ")


def test_the_end_is_never_in_the_future() -> None:
    found = dataclasses.replace(rich(), exit=None)
    assert found.box is not None
    damaged = dataclasses.replace(found.box, events=(Event(1 << 63, "info", "event", "x"),))
    end = end_of(dataclasses.replace(found, box=damaged), NOW)
    assert end is not None and end.time <= NOW and not end.exact


def test_a_live_process_is_shown_as_one() -> None:
    found = dataclasses.replace(rich(), verdict=Verdict("alive", "It is alive."), exit=None)
    shown = text_of(found)
    assert "In flight\n" in shown and "relative to" not in shown


@pytest.mark.parametrize("ns", [0, -1, 1 << 64, 1 << 200])
def test_no_time_is_too_odd_to_be_shown(ns: int) -> None:
    assert content.moment(ns)


def test_a_chain_of_exceptions_without_an_end_ends() -> None:
    nested = CapturedError("E", "deep")
    for _ in range(5000):
        nested = CapturedError("E", "deep", cause=nested, exceptions=(nested, nested))
    assert len(content.chain(nested)) == content.MAX_LINKED


# The page.


class Tags(HTMLParser):
    """All tags of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.values: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple([name for name, _ in attrs])))
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", ()))

    def handle_pi(self, data: str) -> None:
        self.tags.append(("instruction", ()))


VOID = {"meta"}


def test_the_page_has_all_that_there_is_and_is_well_formed() -> None:
    page = Tags(html.render_html(rich(), now=NOW))
    for shown in ("division by zero", "[1, 2, 3] (and 997 more)", "return value / count", "slow query", "GET /item/0",
                  "refresher / 0xbeef", "queue", "oom_kill counter", "/srv/shop/serve.py", "cache.miss"):  # fmt: skip
        assert shown in page.text, shown
    opened: list[str] = []
    for tag, _ in page.tags:
        if tag.startswith("/"):
            assert opened.pop() == tag[1:]
        elif tag not in VOID:
            opened.append(tag)
    assert not opened


def test_the_page_needs_nothing_else_and_lets_nothing_in() -> None:
    page = html.render_html(rich(), now=NOW)
    assert not re.search(
        r"<(script|link|img|iframe|object|base)\b|\bstyle=|\bon\w+=|\b(src|href)=|https?:|@import|url\(", page
    )
    assert "default-src 'none'" in page and "'unsafe-inline'" not in page


def test_the_style_has_the_hash_that_the_policy_lets_in() -> None:
    import base64
    import hashlib

    page = html.render_html(rich(), now=NOW)
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page


def test_a_page_of_next_to_nothing_is_a_page() -> None:
    page = Tags(html.render_html(bare(), now=NOW))
    assert "no recorder was on" in page.text and ("svg", ()) not in page.tags


def test_a_fragment_is_one_element_with_rules_for_itself_alone() -> None:
    part = html.fragment(rich(), now=NOW)
    page = Tags(part)
    assert page.tags[0] == ("div", ("class",)) and page.tags[-1] == ("/div", ())
    assert "html" not in [tag for tag, _ in page.tags] and "body" not in [tag for tag, _ in page.tags]
    style = part[part.index("<style>") + 7 : part.index("</style>")]
    selectors = re.findall(r"^ *([^{}@;:]+?)(?:::?[\w-]+(?:\(\w+\))?)* \{", style, re.MULTILINE)
    assert len(selectors) > 20
    assert all(one.strip().startswith(".mmdebug") for several in selectors for one in several.split(", "))


def test_without_jinja2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pages._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MmStatsError, match="pip install"):
        html.render_html(rich())


def test_a_timeline_shows_events_and_samples_within_itself() -> None:
    found = rich()
    drawn = timeline(found.events, found.samples, end_of(found, NOW))
    assert drawn is not None
    assert [line.name for line in drawn.lines] == ["rss", "cpu", "lag"]
    assert drawn.lines[1].low == pytest.approx(50), "half a second of CPU time each second"
    xs = [mark.x for mark in drawn.marks] + [
        float(p.split(",")[0]) for line in drawn.lines for p in line.points.split()
    ]
    assert min(xs) >= drawn.left and max(xs) <= drawn.right
    assert all([0 <= mark.y <= drawn.height for mark in drawn.marks])


def test_numbers_that_can_not_be_drawn_are_left_out() -> None:
    odd = [float("nan"), float("inf"), 1e300, 1.0, 2.0]
    samples = [Sample(END - i * SECOND, {"rss": number}) for i, number in enumerate(odd)]
    drawn = timeline([], samples, end_of(rich(), NOW))
    assert drawn is not None and drawn.lines[0].points.count(",") == 2
    assert "nan" not in html.render_html(dataclasses.replace(rich(), box=None), now=NOW)


# Nothing in a file can write to a terminal or into a page.

HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\x1b\r\n\t\x07\x9b\u202e\u2028\ud800<>&\"'`{}%#/= \\"),
    ),
    max_size=12,
) | st.sampled_from(
    ["<script>alert(1)</script>", "\x1b]0;x\x07", "\x1b[2J", "</style>", "-->", "]]>", "{{ 7*7 }}", "{% raw %}",
     "&lt;b&gt;", "</title><b>", '" onload="x', "\u202etxt", "</pre></details>", "<!--", "<![CDATA["]
)  # fmt: skip


def hostile(data: Any) -> tuple[Any, Any]:
    """A rich example with arbitrary texts in it, and the same with harmless ones."""
    seed = data.draw(st.integers(0, 1 << 32), label="seed")
    texts = data.draw(st.lists(HOSTILE, min_size=1, max_size=6), label="texts")
    chosen = random.Random(seed)
    # What was the same text before is one afterwards, and what was not, is not: keys stay keys.
    known: dict[str, str] = {}

    def replaced(text: str) -> str:
        return known.setdefault(text, f"{len(known)}{chosen.choice(texts)}")

    return rich(replaced), rich()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_text_of_a_file_reaches_the_terminal_unescaped(data: Any) -> None:
    found, _ = hostile(data)
    for everything in (False, True):
        shown = text_of(found, everything=everything)
        assert all(c.isprintable() or c == "\n" for c in shown)
        assert "\n\x1b" not in shown


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_text_of_a_file_changes_the_markup_of_a_page(data: Any) -> None:
    found, harmless = hostile(data)
    for render in (html.render_html, html.fragment):
        page, plain = render(found, now=NOW), render(harmless, now=NOW)
        parsed = Tags(page)
        assert all(c.isprintable() or c == "\n" for c in page)
        # What stands out is told by numbers, and these are the same.
        assert parsed.tags == Tags(plain).tags
        assert {value for value in parsed.values if not re.fullmatch(r"[\d., -]+", value)} <= set(Tags(plain).values)


def test_an_empty_text_in_every_place_is_no_error() -> None:
    assert text_of(rich(lambda text: ""), everything=True)
    assert html.render_html(rich(lambda text: ""), now=NOW)


def test_an_exception_of_which_little_was_recorded_is_shown() -> None:
    found = rich()
    assert found.box is not None
    record = dataclasses.replace(found.exceptions[0], error=dataclasses.replace(error(str), frames=()))
    shown = text_of(dataclasses.replace(found, box=dataclasses.replace(found.box, exceptions=(record,))))
    assert "fatal: ZeroDivisionError" in shown
