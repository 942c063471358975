"""Bytes of a captured exception: whatever they are, there is an exception to show, or our error."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdebug.capture.errorcodec import LARGEST, decode, encode
from mmdebug.capture.tracebacks import render
from mmdebug.records import CapturedError, Frame
from mmstats.errors import FormatError

relaxed = settings(deadline=None, database=None, max_examples=300)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
COUNT = st.integers(0, 2**40)
FRAMES = st.builds(
    Frame,
    file=TEXT,
    function=TEXT,
    line=COUNT,
    source=st.lists(st.tuples(COUNT, TEXT), max_size=3).map(tuple),
    locals=st.dictionaries(TEXT, TEXT, max_size=3),
    cut=COUNT,
)


def errors(inner: st.SearchStrategy[CapturedError | None]) -> st.SearchStrategy[CapturedError]:
    return st.builds(
        CapturedError,
        type=TEXT,
        message=TEXT,
        frames=st.lists(FRAMES, max_size=4).map(tuple),
        frames_cut=COUNT,
        notes=st.lists(TEXT, max_size=3).map(tuple),
        cause=inner,
        context=inner,
        exceptions=st.lists(inner.filter(bool), max_size=3).map(tuple),
        exceptions_cut=COUNT,
        cut_after=COUNT,
    )


ERRORS = errors(st.recursive(st.none(), lambda inner: st.none() | errors(inner), max_leaves=4))


def read(data: bytes) -> CapturedError | None:
    """Decode and render; only our own error may come of it."""
    try:
        found = decode(data)
    except FormatError:
        return None
    for line in render(found, locals=True):
        line.encode()
    assert decode(encode(found, LARGEST)) == found or len(data) > LARGEST // 2
    return found


@relaxed
@given(ERRORS)
def test_any_record_goes_there_and_back(error: CapturedError) -> None:
    assert decode(encode(error, LARGEST)) == error
    render(error, locals=True)


@relaxed
@given(ERRORS, st.integers(512, 3000))
def test_any_record_fits_into_any_limit(error: CapturedError, limit: int) -> None:
    data = encode(error, limit)
    assert len(data) <= limit
    assert decode(data).type == error.type


@relaxed
@given(st.binary(max_size=300))
def test_random_bytes_are_our_error(data: bytes) -> None:
    read(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
)
KEYS = (
    "type", "message", "frames", "frames_cut", "cut_after", "notes", "cause", "context", "exceptions", "exceptions_cut",
)  # fmt: skip


@relaxed
@given(st.dictionaries(st.sampled_from(KEYS), JSON), TEXT)
def test_values_of_the_wrong_kind_are_our_error(found: dict[str, Any], name: str) -> None:
    read(json.dumps({"type": name, **found}).encode())


@relaxed
@given(ERRORS, st.randoms(use_true_random=False))
def test_mutated_bytes_are_our_error_or_a_record(error: CapturedError, chance: random.Random) -> None:
    data = bytearray(encode(error, LARGEST))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data))
        data[at : at + chance.randint(0, 4)] = bytes(
            chance.choices(b'[]{}",:0159-e\\u\x00\xff', k=chance.randint(0, 4))
        )
    read(bytes(data))


def frame(**changed: Any) -> dict[str, Any]:
    parts = {"file": "f", "function": "g", "line": 1, "source": [[1, "x"]], "locals": {"a": "b"}, "cut": 0} | changed
    return {"type": "T", "frames": [list(parts.values())]}


@pytest.mark.parametrize(
    "found",
    [
        None, [], "T", 5, {}, {"type": 5}, {"type": None}, {"type": "T", "message": 5}, {"type": "T", "frames": {}},
        {"type": "T", "frames": [[]]}, {"type": "T", "frames": ["abcdef"]}, {"type": "T", "frames_cut": -1},
        {"type": "T", "frames_cut": True}, {"type": "T", "frames_cut": 1.0}, {"type": "T", "frames_cut": 1 << 63},
        {"type": "T", "notes": "abc"}, {"type": "T", "notes": [1]}, {"type": "T", "cause": []},
        {"type": "T", "cause": "x"},
        {"type": "T", "exceptions": [None]}, {"type": "T", "message": "\ud800"}, frame(file=1), frame(line="1"),
        frame(line=-1), frame(source=[[1]]), frame(source=[["1", "x"]]), frame(source={"1": "x"}), frame(locals=[]),
        frame(locals={"a": 1}), frame(cut=None), frame(locals={"\udfff": "x"}),
    ],
)  # fmt: skip
def test_whatever_is_not_right_is_our_error(found: Any) -> None:
    with pytest.raises(FormatError):
        decode(json.dumps(found).encode())
    assert decode(json.dumps(frame()).encode()).frames[0].locals == {"a": "b"}


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 500_000,
        b'{"type":"T","cause":' * 40_000,
        b'{"type":"T","cause":' * 40 + b'{"type":"T"}' + b"}" * 40,
        b'{"type":"T","exceptions":[' * 40 + b'{"type":"T"}' + b"]}" * 40,
        b'{"type":"T","x":' + b"[" * 3000 + b"]" * 3000 + b"}" * 2,
        b'{"type":"T","frames_cut":' + b"9" * 100_000 + b"}",
        b'{"type":"T","frames_cut":NaN}',
        b'{"type":"T","frames_cut":-Infinity}',
        b'{"type":"T"}' + b" " * LARGEST,
        b'{"type":"T"} x',
        b'\xef\xbb\xbf{"type":"T"}',
        b"",
    ],
)
def test_deep_huge_and_odd_numbers_are_our_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)
