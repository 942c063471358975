"""What stands out in one process beside others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from examples import END, SECOND, rich, snapshot

from mmdebug.compare import MAX_SCORE, STANDS_OUT, Subject, compare, score_of, standouts
from mmdebug.records import Activity, Box, ExceptionRecord


def fleet(name: str, numbers: list[float], **options: Any) -> list[Any]:
    return [snapshot({name: n}, path=f"/stats/web-{i}-0badcafe.mmstats", **options) for i, n in enumerate(numbers)]


def test_a_number_far_from_the_median_stands_out_and_one_near_it_does_not() -> None:
    dead, *others = fleet("queue", [950, 3, 4, 5])
    found = compare(dead, others).series[0]
    assert (found.value, found.median, found.low, found.high, found.others) == (950, 4, 3, 5, 3)
    assert found.score > STANDS_OUT
    dead, *others = fleet("queue", [5, 3, 4, 5])
    assert compare(dead, others).standouts == ()


def test_one_odd_sibling_does_not_hide_the_dead_one() -> None:
    assert score_of(950, [3, 4, 5, 4, 100000]) > STANDS_OUT


@pytest.mark.parametrize(
    ("value", "others", "stands_out"),
    [
        (5, [5, 5, 5], False),
        (105, [100, 100, 100], False),  # within the tolerance, however alike the others are
        (200, [100, 100, 100], True),
        (1, [0, 0, 0], True),
        (0, [0], False),
        (1e308, [-1e308, -1e308], True),
        (-5, [5, 5], True),
        (10, [1, 10, 20], False),
    ],
)
def test_scores(value: float, others: list[float], stands_out: bool) -> None:
    score = score_of(value, others)
    assert 0 <= score <= MAX_SCORE
    assert (score >= STANDS_OUT) is stands_out


def test_counters_are_compared_by_their_growth_per_second_of_life() -> None:
    young = snapshot({"requests": 1000.0}, counters=("requests",), created=END - 100 * SECOND)
    old = snapshot({"requests": 100000.0}, counters=("requests",), created=END - 10000 * SECOND)
    found = compare(young, [old]).series[0]
    assert (found.what, found.value, found.median) == ("per second", 10, 10)
    assert found.score == 0


def test_where_a_life_is_not_known_counters_are_compared_as_they_stand() -> None:
    dead, *others = fleet("requests", [100, 90, 80], counters=("requests",), created=0)
    assert compare(dead, others).series[0].what == "count"


def test_of_one_that_lives_the_time_of_reading_bounds_its_life() -> None:
    dead = snapshot({"n": 100.0}, counters=("n",), created=END - 10 * SECOND)
    live = snapshot({"n": 400.0}, counters=("n",), created=END - 10 * SECOND, heartbeat=0, alive=True)
    assert compare(dead, [live], now=END + 30 * SECOND).series[0].median == 10
    assert compare(dead, [live]).series[0].what == "count"


def test_a_few_counts_more_are_chance() -> None:
    dead, *others = fleet("errors", [2, 0, 0, 0], counters=("errors",))
    assert compare(dead, others).standouts == ()
    dead, *others = fleet("errors", [40, 0, 0, 0], counters=("errors",))
    assert compare(dead, others).standouts


def test_numbers_that_are_none_are_left_out() -> None:
    dead, *others = fleet("g", [float("nan"), 1, float("inf")])
    assert compare(dead, others).series == ()
    dead, *others = fleet("g", [7, float("nan"), 1, float("inf")])
    assert compare(dead, others).series[0].others == 1


def test_the_most_conspicuous_comes_first() -> None:
    dead = snapshot({"a": 5.0, "b": 900.0, "c": 20.0})
    others = [snapshot({"a": 5.0, "b": 4.0 + i, "c": 4.0 + i}) for i in range(3)]
    assert [item.name for item in compare(dead, others).series] == ["b", "c", "a"]


def test_what_only_one_side_has_is_named() -> None:
    found = compare(snapshot({"a": 1.0, "mine": 1.0}), [snapshot({"a": 1.0, "theirs": 1.0})])
    assert (found.alone, found.missing) == (("mine",), ("theirs",))
    assert compare(snapshot({"a": 1.0}), []).alone == ()


def test_set_up_that_differs_is_named() -> None:
    def one(zone: str, version: str) -> Any:
        return snapshot({}, identity={"environ": (f"TZ={zone}", "LANG=C"), "python": (version,), "argv": ("app", zone)})

    found = compare(one("UTC", "3.12"), [one("CET", "3.12"), one("CET", "3.11"), one("UTC", "3.12")])
    assert [(d.what, d.name, d.value, d.others) for d in found.differences] == [
        ("environment", "TZ", "UTC", (("CET", 2), ("UTC", 1))),
        ("version", "python", "3.12", (("3.12", 2), ("3.11", 1))),
        ("argv", "argv", "app UTC", (("app CET", 2), ("app UTC", 1))),
    ]


def test_a_state_counts_only_where_the_others_agree() -> None:
    def one(mode: str) -> Any:
        return snapshot({}, texts={"mode": mode})

    assert [d.name for d in compare(one("ro"), [one("rw"), one("rw")]).differences] == ["mode"]
    assert compare(one("a"), [one("b"), one("c")]).differences == ()


def test_what_was_in_flight_or_raised_in_none_of_the_others_is_named() -> None:
    def one(activity: str, error: str) -> Subject:
        box = Box(
            "x.box",
            activities=(Activity("GET /", 1), Activity(activity, 1)),
            exceptions=(ExceptionRecord(error, "a.py:1 f", "task", 3, 1, 2),),
        )
        return Subject(snapshot({}), box)

    found = compare(one("GET /export", "MemoryError"), [one("POST /", "OSError"), one("POST /", "OSError")])
    assert [(d.what, d.name, d.value) for d in found.differences] == [
        ("activity", "GET /export", "1"),
        ("exception", "MemoryError at a.py:1 f", "3"),
    ]
    without = [snapshot({})]
    assert compare(one("GET /export", "MemoryError"), without).differences == ()


def test_a_post_mortem_is_compared_with_its_siblings() -> None:
    assert [item.name for item in standouts(rich(), END)] == ["queue"]


def test_a_comparison_goes_into_json() -> None:
    found = rich()
    document = json.loads(json.dumps(compare(found, found.siblings, now=END).to_dict(), allow_nan=False))
    assert document["series"][0]["name"] == "queue" and document["series"][0]["stands_out"] is True
    assert document["dead"] == "web-4242-0badcafe"
