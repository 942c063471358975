"""Bytes to definitions and back; what is foreign, newer or damaged is skipped, degraded, or an error of ours."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmstats
from mmstats import layout
from mmstats.errors import FormatError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
words = st.integers(0, 2**64 - 1)


def attribute(tag: int, data: bytes) -> bytes:
    return struct.pack("<HHI", tag, 0, len(data)) + data + bytes(-len(data) % 8)


def only_record(data: bytes) -> tuple[int, int, int, bytes]:
    """Kind, flags, cell and body of the one record that `data` is."""
    ((at, size, kind, flags, cell),) = layout.records(data, 0, len(data))
    assert (at, size) == (0, len(data))
    return kind, flags, cell, data[layout.RECORD_BYTES :]


@st.composite
def columns(draw: st.DrawFn) -> layout.Column:
    type_ = draw(st.sampled_from(list(layout.COLUMN_CODES)))
    return layout.Column(draw(names), type_, draw(st.integers(1, 300)))


@st.composite
def families(draw: st.DrawFn) -> layout.Family:
    kind = draw(st.sampled_from(list(layout.KIND_CODES)))
    common: dict[str, Any] = {
        "name": draw(names),
        "kind": kind,
        "aggregate": draw(st.sampled_from(list(layout.AGGREGATE_CODES))),
        "help": draw(texts),
        "unit": draw(texts),
        "labelnames": tuple(draw(st.lists(names, max_size=3))),
        "flags": draw(st.sampled_from([0, layout.DESCRIPTIVE, layout.STATIC, layout.DESCRIPTIVE | layout.STATIC])),
    }
    if kind == "histogram":
        bounds = tuple(sorted(draw(st.sets(st.floats(-1e9, 1e9), min_size=1, max_size=9))))
        required = layout.REQUIRED_COLUMNS[kind][:2]
        found = tuple([layout.Column(*column) for column in required])
        return layout.Family(
            cell="buffered", bounds=bounds, columns=(*found, layout.Column("buckets", "u64", len(bounds) + 1)), **common
        )
    if kind == "struct":
        return layout.Family(
            cell="buffered", columns=tuple(draw(st.lists(columns(), min_size=1, max_size=4))), **common
        )
    if kind in layout.REQUIRED_COLUMNS:
        size = draw(st.integers(1, 999)) if kind in ("text", "info") else 1
        found = tuple([layout.Column(name, type_, size) for name, type_ in layout.REQUIRED_COLUMNS[kind]])
        return layout.Family(cell="buffered", columns=found, **common)
    if kind == "enum":
        return layout.Family(cell="u64", states=tuple(draw(st.lists(names, min_size=1, max_size=4))), **common)
    cell = "u64" if kind == "bool" else draw(st.sampled_from(["u64", "i64", "f64"]))
    return layout.Family(cell=cell, **common)


# Round trips.


@given(number=st.integers(0, layout.MAX_FAMILIES - 1), family=families())
def test_a_family_decodes_to_what_was_encoded(number: int, family: layout.Family) -> None:
    data = layout.encode_family(number, family)
    kind, flags, cell, body = only_record(data)
    assert (kind, flags, cell) == (layout.FAMILY, family.flags, 0)
    assert layout.decode_family(body, flags) == (number, family)
    assert layout.encode_family(number, family) == data


@given(
    number=st.integers(0, 2**32 - 1), labels=st.lists(texts, max_size=4).map(tuple), cell=words,
    flags=st.integers(0, 2**16 - 1),
)  # fmt: skip
def test_a_series_decodes_to_what_was_encoded(number: int, labels: tuple[str, ...], cell: int, flags: int) -> None:
    data = layout.encode_series(number, labels, cell, flags)
    kind, found_flags, found_cell, body = only_record(data)
    assert (kind, found_flags, found_cell) == (layout.SERIES, flags, cell)
    assert layout.decode_series(body) == (number, labels)


@given(key=texts, values=st.lists(texts, max_size=5).map(tuple))
def test_a_fact_of_the_process_decodes_to_what_was_encoded(key: str, values: tuple[str, ...]) -> None:
    kind, _, _, body = only_record(layout.encode_identity(key, values))
    assert kind == layout.IDENTITY
    assert layout.decode_identity(body) == (key, values)


@given(
    st.builds(
        layout.Header,
        minor=st.integers(0, 2**16 - 1), first_definition=st.integers(16, 512).map(lambda n: n * 8),
        committed=st.integers(512, 4096).map(lambda n: n * 8), state=words, uuid=st.binary(min_size=16, max_size=16),
        created=words, closed=words, heartbeat=words, pid=st.integers(0, 2**32 - 1),
        exit_status=st.integers(-(2**31), 2**31 - 1), start_ticks=words,
        boot_id=st.binary(min_size=16, max_size=16), pid_namespace=words, flags=words, inode=words,
    )
)  # fmt: skip
def test_a_header_decodes_to_what_was_encoded(header: layout.Header) -> None:
    data = header.encode()
    assert len(data) == layout.HEADER_BYTES
    assert layout.decode_header(data) == header
    assert layout.decode_header(data + b"more") == header


def test_the_words_that_change_are_where_writers_store_them() -> None:
    header = layout.Header(
        minor=0, first_definition=128, committed=1024, state=layout.LIVE, uuid=bytes(16), created=1, closed=2,
        heartbeat=3,
    )  # fmt: skip
    data = header.encode()
    found = [
        struct.unpack_from("<Q", data, at)[0]
        for at in (layout.COMMITTED_AT, layout.STATE_AT, layout.CLOSED_AT, layout.HEARTBEAT_AT)
    ]
    assert found == [1024, layout.LIVE, 2, 3]


@given(st.lists(st.integers(2, 40).map(lambda n: n * 8), max_size=6))
def test_records_follow_each_other(sizes: list[int]) -> None:
    data = b"".join([layout.encode_padding(size) for size in sizes])
    found = layout.records(data, 0, len(data))
    assert [size for _, size, *_ in found] == sizes
    assert {kind for _, _, kind, *_ in found} <= {layout.PADDING}


@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), st.binary(max_size=20)), max_size=6))
def test_attributes_follow_each_other(given: list[tuple[int, bytes]]) -> None:
    assert layout.attributes(b"".join([attribute(tag, data) for tag, data in given])) == given


@given(st.integers(0, 10**6))
def test_align_rounds_up_to_eight(size: int) -> None:
    assert 0 <= layout.align(size) - size < 8
    assert layout.align(size) % 8 == 0


@pytest.mark.parametrize(
    ("field", "size"),
    [
        (mmstats.CounterField(), 8),
        (mmstats.GaugeField(aggregate="last"), 16),
        (mmstats.HistogramField(buckets=[1, 2]), 24 + 2 * 8 * 5),
        (mmstats.StringField(9), 24 + 2 * (8 + 16)),
        (mmstats.StringField(9, aggregate="last"), 24 + 2 * (8 + 16 + 8)),
        (mmstats.TimerField(), 24 + 2 * 8 * 7),
    ],
)
def test_a_cell_has_room_for_its_value_and_for_the_next_one(field: mmstats.Field, size: int) -> None:
    assert field.family("x").cell_size == size


# What is newer than this reader.

HISTOGRAM = (layout.Column("count", "u64"), layout.Column("sum", "f64"), layout.Column("buckets", "u64", 3))
COUNTER = layout.Family("x", "counter", "u64", "sum", help="Help")
STRUCT = layout.Family("x", "struct", "buffered", "sum", columns=(layout.Column("a", "u64"),))


def body_of(family: layout.Family) -> bytearray:
    return bytearray(layout.encode_family(1, family)[layout.RECORD_BYTES :])


@pytest.mark.parametrize(("family", "kind"), [(COUNTER, "gauge"), (STRUCT, "struct")])
@pytest.mark.parametrize("code", [0, 12, 255])
def test_an_unknown_kind_is_read_by_its_cell(family: layout.Family, kind: str, code: int) -> None:
    body = body_of(family)
    body[4] = code
    found = layout.decode_family(bytes(body), 0)[1]
    assert (found.kind, found.cell, found.columns) == (kind, family.cell, family.columns)


@pytest.mark.parametrize("code", [0, 7, 255])
def test_an_unknown_aggregate_keeps_values_apart(code: int) -> None:
    body = body_of(COUNTER)
    body[5] = code
    assert layout.decode_family(bytes(body), 0)[1].aggregate == "all"


@given(st.integers(11, 2**16 - 1), st.binary(max_size=40))
def test_unknown_attributes_are_skipped(tag: int, data: bytes) -> None:
    extra = attribute(tag, data)
    assert layout.decode_family(bytes(body_of(COUNTER)) + extra, 0) == (1, COUNTER)
    series = layout.encode_series(1, ("a",), 64)[layout.RECORD_BYTES :]
    assert layout.decode_series(series + extra) == (1, ("a",))
    fact = layout.encode_identity("k", ("v",))[layout.RECORD_BYTES :]
    assert layout.decode_identity(extra + fact) == ("k", ("v",))


def test_unknown_flags_are_kept_and_do_no_harm() -> None:
    assert layout.decode_family(bytes(body_of(COUNTER)), 0x8000)[1].flags == 0x8000


def test_text_that_is_no_utf_8_is_replaced() -> None:
    body = layout.SERIES_HEAD.pack(1, 0) + attribute(layout.LABEL_VALUE, b"\xffx")
    assert layout.decode_series(body) == (1, ("\ufffdx",))


def test_a_newer_minor_version_is_read() -> None:
    header = layout.Header(minor=9, first_definition=128, committed=128, state=1, uuid=bytes(16), created=0)
    assert layout.decode_header(header.encode()).minor == 9


# What is damaged.


@pytest.mark.parametrize(
    ("first", "committed", "message"),
    [
        (120, 1024, "contradict"),
        (0, 1024, "contradict"),
        (132, 1024, "contradict"),
        (1024, 1016, "contradict"),
        (128, 1025, "contradict"),
        (128, layout.MAX_REGION + 8, "over the limit"),
        (128, 2**64 - 8, "over the limit"),
    ],
)
def test_a_header_whose_offsets_cannot_be_is_damaged(first: int, committed: int, message: str) -> None:
    header = layout.Header(
        minor=0, first_definition=first, committed=committed, state=1, uuid=bytes(16), created=0
    )  # fmt: skip
    with pytest.raises(FormatError, match=message):
        layout.decode_header(header.encode())


@pytest.mark.parametrize("size", range(0, 128, 9))
def test_a_header_that_is_cut_off_is_none(size: int) -> None:
    header = layout.Header(minor=0, first_definition=128, committed=128, state=1, uuid=bytes(16), created=0)
    with pytest.raises(FormatError, match=f"only {size} bytes"):
        layout.decode_header(header.encode()[:size])


@pytest.mark.parametrize("size", [0, 8, 15, 17, 60, 2**31, 2**32 - 8])
def test_records_end_where_one_cannot_be(size: int) -> None:
    good = layout.encode_padding(32)
    bad = layout.RECORD.pack(size, layout.PADDING, 0, 0) + bytes(32)
    found = layout.records(good + bad + good, 0, 112)
    assert found == [(0, 32, 0, 0, 0)]


@given(st.binary(max_size=200))
def test_whatever_the_bytes_hold_decoding_gives_a_value_or_an_error_of_ours(data: bytes) -> None:
    decoders: list[Any] = [
        layout.decode_header, layout.decode_identity, layout.decode_series, layout.attributes,
        lambda data: layout.decode_family(data, 0), lambda data: layout.decode_family(data, layout.STAMPED),
    ]  # fmt: skip
    for decode in decoders:
        try:
            decode(data)
        except FormatError:
            continue
    found = layout.records(data, 0, len(data))
    assert sum([size for _, size, *_ in found]) <= len(data)


@given(family=families(), data=st.data())
def test_a_family_with_a_damaged_byte_is_read_or_refused(family: layout.Family, data: st.DataObject) -> None:
    body = body_of(family)
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    try:
        _, found = layout.decode_family(bytes(body), family.flags)
    except FormatError:
        return
    assert found.cell_size > 0


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (layout.Family("x", "histogram", "u64", "sum"), "lacks the columns"),
        (layout.Family("x", "counter", "buffered", "sum"), "contradict"),
        (layout.Family("x", "counter", "u64", "sum", columns=(layout.Column("a", "u64"),)), "contradict"),
        (layout.Family("x", "counter", "buffered", "sum", columns=(layout.Column("a", "u64"),)), "has columns"),
        (layout.Family("x", "text", "buffered", "sum", columns=(layout.Column("a", "u64"),)), "lacks the columns"),
        (layout.Family("x", "timer", "buffered", "sum", columns=(layout.Column("count", "u64"),)), "lacks the columns"),
        (
            layout.Family(
                "x", "histogram", "buffered", "sum", bounds=(1.0,), columns=HISTOGRAM,
            ),
            "differ in number",
        ),
    ],
)  # fmt: skip
def test_a_family_that_contradicts_itself_is_damaged(family: layout.Family, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        layout.decode_family(bytes(body_of(family)), 0)


# Limits.


def test_a_definition_has_a_longest_size() -> None:
    room = layout.MAX_RECORD - len(layout.encode_family(0, layout.Family("x", "gauge", "f64", "sum"))) - 8
    longest = layout.Family("x", "gauge", "f64", "sum", help="h" * room)
    assert len(layout.encode_family(0, longest)) == layout.MAX_RECORD
    with pytest.raises(FormatError, match="over the limit of 65536: shorten"):
        layout.encode_family(0, layout.Family("x", "gauge", "f64", "sum", help="h" * (room + 1)))


def test_a_familys_number_has_a_limit() -> None:
    body = body_of(COUNTER)
    struct.pack_into("<I", body, 0, layout.MAX_FAMILIES)
    with pytest.raises(FormatError, match="makes no sense"):
        layout.decode_family(bytes(body), 0)


@pytest.mark.parametrize("count", [0, layout.MAX_RECORD + 1, 2**32 - 1])
def test_a_columns_size_has_limits(count: int) -> None:
    family = layout.Family("x", "struct", "buffered", "sum", columns=(layout.Column("a", "u64", count),))
    with pytest.raises(FormatError, match="column"):
        layout.decode_family(bytes(body_of(family)), 0)


def test_the_codes_of_the_format_do_not_change() -> None:
    """They stand in files: a code that changes its meaning makes old files lie."""
    assert list(layout.KINDS.items()) == list(
        enumerate(
            [
                "counter",
                "gauge",
                "histogram",
                "timer",
                "average",
                "moving_average",
                "text",
                "enum",
                "info",
                "bool",
                "struct",
            ],
            1,
        )
    )
    assert list(layout.AGGREGATES.values()) == ["sum", "min", "max", "mean", "last", "all"]
    assert list(layout.CELLS.values()) == ["u64", "i64", "f64", "buffered"]
    assert list(layout.COLUMN_TYPES.values()) == ["u64", "i64", "f64", "text"]
    assert (layout.PADDING, layout.IDENTITY, layout.FAMILY, layout.SERIES) == (0, 1, 2, 3)
    assert (layout.DESCRIPTIVE, layout.STATIC, layout.STAMPED, layout.OVERFLOW, layout.LOCKED) == (1, 2, 4, 1, 1)
    assert (layout.KEY, layout.VALUE, layout.NAME, layout.HELP, layout.UNIT) == (1, 2, 3, 4, 5)
    assert (layout.LABEL_NAME, layout.COLUMN, layout.BOUNDS, layout.STATE, layout.LABEL_VALUE) == (6, 7, 8, 9, 10)
    assert (layout.STARTING, layout.LIVE, layout.CLOSED) == (0, 1, 2)
    assert bytes.fromhex("894d4d530d0a1a0a") == layout.MAGIC
