"""docs/format.md says what the code does: its example, its tables of codes, its table of verdicts."""

from __future__ import annotations

import itertools
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from mmdebug import exits, parked
from mmdebug import layout as box_layout
from mmdebug.box import Box
from mmdebug.capture import errorcodec
from mmdebug.records import CapturedError, Exit, FaultFrame, Frame, ParkedGroup, SignalSent
from mmstats import identity as identity_module
from mmstats import layout, process, registry

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
LINE = re.compile(r"(?P<at>[0-9a-f]{8})  (?P<hex>[0-9a-f ]{48})  \|(?P<ascii>.{1,16})\|\Z")
ANNOTATED = ("offset", "bytes", "type", "value", "meaning")
NUMBERS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "i32": "<i", "f64": "<d"}

Row = tuple[str, ...]


def _tables() -> list[tuple[Row, list[Row]]]:
    """All tables outside of fenced blocks: ``(header, rows)``, in their order."""
    found = []
    prose = FENCED.sub("\n", TEXT)
    for block in re.findall(r"(?:^\|.*\|\n)+", prose, re.MULTILINE):
        rows = [tuple([cell.strip() for cell in line.strip("|").split("|")]) for line in block.splitlines()]
        assert all(len(row) == len(rows[0]) for row in rows), rows[0]
        found.append((rows[0], rows[2:]))
    return found


def _table(*header: str) -> list[Row]:
    """The rows of the one table whose header begins so."""
    (rows,) = [rows for found, rows in _tables() if found[: len(header)] == header]
    return rows


def _header_rows() -> list[Row]:
    return _table("offset", "size", "type", "name", "meaning", "who changes it, and when")


def _fragments() -> list[tuple[int, bytes]]:
    """The example's bytes: ``(offset, bytes)`` of each hexdump, in their order."""
    found = []
    for language, block in FENCED.findall(TEXT):
        lines = [LINE.match(line) for line in block.splitlines()]
        if language != "text" or lines[0] is None:
            continue
        data, start = b"", int(lines[0]["at"], 16)
        for match in lines:
            assert match is not None, block
            assert int(match["at"], 16) == start + len(data)
            row = bytes.fromhex(match["hex"])
            assert match["ascii"] == "".join([chr(byte) if 32 <= byte < 127 else "." for byte in row])
            data += row
        found.append((start, data))
    return found


def _image() -> bytes:
    """The example file, put together of its fragments; what is not shown is zero."""
    image = bytearray(1_052_672)
    for start, data in _fragments():
        image[start : start + len(data)] = data
    return bytes(image)


def _plain(text: str) -> str:
    return text.strip("`").replace(",", "")


def _codes(header: Row) -> dict[int, str]:
    return {int(row[0]): row[1].strip("`") for row in _table(*header)}


def _stream(image: bytes, header: layout.Header) -> tuple[dict[int, layout.Family], list[tuple[Any, ...]]]:
    """The families by their numbers, and ``(family number, labels, cell)`` of the series."""
    families: dict[int, layout.Family] = {}
    series = []
    found = layout.records(image, header.first_definition, header.committed)
    assert found[-1][0] + found[-1][1] == header.committed
    for at, size, kind, flags, cell in found:
        body = image[at + layout.RECORD_BYTES : at + size]
        if kind == layout.FAMILY:
            number, family = layout.decode_family(body, flags)
            families[number] = family
        else:
            assert (kind, flags) == (layout.SERIES, 0)
            series.append((*layout.decode_series(body), cell))
    return families, series


# The example.


def test_each_annotation_says_what_its_bytes_are() -> None:
    image = _image()
    rows = [row for header, rows in _tables() if header == ANNOTATED for row in rows]
    assert len(rows) > 100
    for offset, quoted, type_, value, _ in rows:
        data = bytes.fromhex(_plain(quoted))
        at = int(offset, 16)
        assert image[at : at + len(data)] == data, offset
        if type_ in NUMBERS:
            expected = float(_plain(value)) if type_ == "f64" else int(_plain(value), 0)
            assert struct.unpack(NUMBERS[type_], data) == (expected,), offset
        elif type_ == "text":
            assert data.decode() == value.strip("`"), offset
        elif type_ == "zero":
            assert not any(data), offset
        else:
            assert type_ == "bytes", offset


def test_the_annotations_leave_no_byte_out() -> None:
    described: list[range] = []
    for header, rows in _tables():
        if header == ANNOTATED:
            start = int(rows[0][0], 16)
            end = start
            for offset, quoted, *_ in rows:
                assert int(offset, 16) == end
                end += len(bytes.fromhex(_plain(quoted)))
            described.append(range(start, end))
    shown = [range(start, start + len(data)) for start, data in _fragments()]
    assert len(shown) == len(described) + 1  # the family of the writer itself is not taken apart
    assert [fragment for fragment in shown if fragment not in described] == [range(0x1000, 0x10A8)]


def test_the_example_decodes_to_what_the_page_says() -> None:
    image = _image()
    header = layout.decode_header(image[: layout.HEADER_BYTES])
    assert header == layout.Header(
        minor=0, first_definition=0x1000, committed=0x1288, state=layout.LIVE,
        uuid=bytes.fromhex("00112233445566778899aabbccddeeff"), created=1_700_000_000 * 10**9, pid=4242,
        start_ticks=123456, boot_id=bytes.fromhex("6c1b8a524e0f4d3a9b7c2d1e0f5a4b3c"), pid_namespace=4026531836,
        flags=layout.LOCKED, inode=77,
    )  # fmt: skip
    identity = layout.records(image, layout.HEADER_BYTES, header.first_definition)
    assert [kind for _, _, kind, _, _ in identity] == [layout.IDENTITY, layout.IDENTITY, layout.PADDING]
    assert sum([size for _, size, _, _, _ in identity]) == header.first_definition - layout.HEADER_BYTES
    assert [layout.decode_identity(image[at + 16 : at + size]) for at, size, *_ in identity[:2]] == [
        ("service", ("web",)),
        ("argv", ("python", "app.py")),
    ]
    families, series = _stream(image, header)
    count, total = layout.Column("count", "u64"), layout.Column("sum", "f64")
    assert families == {
        0: registry.OVERFLOW_FAMILY,
        1: layout.Family("requests", "counter", "u64", "sum", "Requests served", labelnames=("method", "status")),
        2: layout.Family("active", "gauge", "f64", "sum"),
        3: layout.Family(
            "latency", "histogram", "buffered", "sum", unit="seconds",
            columns=(count, total, layout.Column("buckets", "u64", 3)), bounds=(0.25, 1.0),
        ),
        4: layout.Family("release", "text", "buffered", "all", columns=(layout.Column("text", "text", 16),)),
    }  # fmt: skip
    assert series == [
        (0, (), 0x81000), (2, (), 0x81008), (3, (), 0x81010), (4, (), 0x81078), (1, ("GET", "200"), 0x810C0),
    ]  # fmt: skip
    after = [cell + families[number].cell_size for number, _, cell in series]
    assert after == [cell for _, _, cell in series[1:]] + [0x810C8]


def test_the_example_says_where_its_records_lie() -> None:
    image = _image()
    header = layout.decode_header(image[: layout.HEADER_BYTES])
    *rows, last = _table("at", "size", "record")
    found = layout.records(image, header.first_definition, header.committed)
    assert [(int(row[0], 16), int(row[1])) for row in rows] == [(at, size) for at, size, *_ in found]
    assert int(last[0], 16) == header.committed
    for row, (_, _, kind, _, cell) in zip(rows, found, strict=True):
        assert row[2].startswith("series" if kind == layout.SERIES else "family")
        assert not cell or row[2].endswith(f"cell {cell:#x}")


def test_the_current_buffers_hold_the_last_updates() -> None:
    image = _image()
    families, series = _stream(image, layout.decode_header(image[: layout.HEADER_BYTES]))
    buffers = {}
    for number, _, cell in series:
        family = families[number]
        if family.cell == "buffered":
            begun, seq, size = struct.unpack_from("<QQQ", image, cell)
            assert (begun, size) == (seq, family.buffer_size)
            start = cell + layout.BUFFERED_HEAD + (seq & 1) * size
            buffers[family.name] = image[start : start + size]
    assert struct.unpack("<QdQQQ", buffers["latency"]) == (3, 0.875, 2, 1, 0)
    (length,) = struct.unpack_from("<Q", buffers["release"])
    assert buffers["release"][8 : 8 + length].decode() == "café 2"


def test_the_program_of_the_page_makes_the_bytes_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = [("service", ("web",)), ("argv", ("python", "app.py"))]
    monkeypatch.setattr(identity_module, "identity_texts", lambda service: identity)
    (source,) = [block for language, block in FENCED.findall(TEXT) if language == "python"]
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, "docs/format.md", "exec"), names)
    made = bytearray(Path(names["stats"].filename).read_bytes())
    shown = _image()
    for offset, size, _, name, *_ in _header_rows():
        if _plain(name) in ("uuid", "created", "pid", "start_ticks", "boot_id", "pid_namespace", "flags", "inode"):
            field = slice(int(offset), int(offset) + int(size))
            made[field] = shown[field]
    assert bytes(made) == shown


def test_what_the_example_lacks_is_laid_out_as_the_page_says() -> None:
    columns = (layout.Column("text", "text", 0x1234), layout.Column("time", "u64"))
    text = layout.Family("t", "text", "buffered", "last", columns=columns, flags=layout.STAMPED)
    record = layout.encode_family(0x89AB, text)
    assert record[6:8] == b"\x04\x00"  # flags
    assert record[16:24] == bytes.fromhex("ab 89 00 00 07 05 04 00")
    assert record[48:56] == bytes.fromhex("04 00 00 00 34 12 00 00")  # column type and count
    assert text.cell_size == 24 + 2 * (8 + 0x1238 + 8)
    enum = layout.Family("e", "enum", "u64", "last", states=("a", "b"), flags=layout.STAMPED)
    assert enum.cell_size == 16
    assert layout.encode_family(0, enum)[40:] == bytes.fromhex(
        "09 00 00 00 01 00 00 00 61 00 00 00 00 00 00 00 09 00 00 00 01 00 00 00 62 00 00 00 00 00 00 00"
    )
    assert layout.encode_series(7, ("x",), 0x12345678, layout.OVERFLOW) == bytes.fromhex(
        "28 00 00 00 03 00 01 00 78 56 34 12 00 00 00 00 07 00 00 00 00 00 00 00"
        "0a 00 00 00 01 00 00 00 78 00 00 00 00 00 00 00"
    )


# The tables.


def test_the_header_table_is_the_header() -> None:
    rows = _header_rows()
    values: dict[str, Any] = {
        "minor": 7, "first_definition": 4096, "committed": 8192, "state": 2, "uuid": bytes(range(16)), "created": 11,
        "closed": 12, "heartbeat": 13, "pid": 14, "exit_status": -15, "start_ticks": 16,
        "boot_id": bytes(range(16, 32)), "pid_namespace": 17, "flags": 18, "inode": 19,
    }  # fmt: skip
    encoded = layout.Header(**values).encode()
    values.update(magic=layout.MAGIC, major=layout.MAJOR)
    end = 0
    for offset, size, type_, name, *_ in rows:
        assert int(offset) == end
        end += int(size)
        data = encoded[int(offset) : end]
        value = values.pop(_plain(name))
        assert (data if type_ == "bytes" else struct.unpack(NUMBERS[type_], data)[0]) == value, name
    assert (end, values) == (layout.HEADER_BYTES, {})
    changing = {_plain(row[3]): int(row[0]) for row in rows if row[5] != "nobody"}
    assert changing == {
        "committed": layout.COMMITTED_AT, "state": layout.STATE_AT, "closed": layout.CLOSED_AT,
        "heartbeat": layout.HEARTBEAT_AT, "exit_status": 76,
    }  # fmt: skip
    assert (layout.STARTING, layout.LIVE, layout.CLOSED) == (0, 1, 2)


def test_the_tables_of_codes_are_the_codes() -> None:
    assert _codes(("code", "kind of metric")) == layout.KINDS
    assert _codes(("code", "aggregate")) == layout.AGGREGATES
    assert _codes(("code", "cell type")) == layout.CELLS
    assert _codes(("code", "column type")) == layout.COLUMN_TYPES
    tags = {name: code for code, name in _codes(("tag", "name", "in")).items()}
    assert len(tags) == 12
    of_boxes = {"SIZE": box_layout.SIZE, "COUNT": box_layout.COUNT}
    assert tags == {name: of_boxes.get(name) or getattr(layout, name) for name in tags}
    kinds = _table("kind", "name", "where", "flags")
    assert {row[1]: int(row[0]) for row in kinds} == {
        "padding": layout.PADDING, "identity": layout.IDENTITY, "family": layout.FAMILY, "series": layout.SERIES,
        "ring": box_layout.RING, "slots": box_layout.SLOTS,
    }  # fmt: skip
    flags = {name: int(bit) for row in kinds for bit, name in re.findall(r"(\d+) `(\w+)`", row[3])}
    assert flags == {name: getattr(layout, name) for name in ("DESCRIPTIVE", "STATIC", "STAMPED", "OVERFLOW")}


def test_the_tables_of_columns_are_the_columns() -> None:
    window = tuple([(_plain(row[0]), row[1]) for row in _table("column", "type", "meaning")])
    assert window == layout.WINDOW_COLUMNS
    required = {}
    for kind, cells, columns, _ in _table("kind", "cell types", "columns, in order"):
        if cells == "buffered" and kind != "struct":
            named = tuple(re.findall(r"`(\w+)` (u64|i64|f64|text)", columns))
            required[kind] = window if columns == "the window columns" else named
    assert required == layout.REQUIRED_COLUMNS


def test_the_table_of_limits_is_the_limits() -> None:
    limits = {_plain(row[0]): int(_plain(row[1]).split()[0]) for row in _table("limit", "value", "what")}
    assert limits == {name: getattr(layout, name) for name in ("MAX_REGION", "MAX_RECORD", "MAX_FAMILIES")}


def test_the_table_of_verdicts_is_what_is_judged() -> None:
    rows = _table("row", "boot", "namespace")
    used = set()
    yes_no = {"yes": True, "no": False}
    boots = {"same": True, "other": False, "?": None}
    running = {"runs": True, "gone": False, "?": None}
    held = {"held": True, "free": False, "?": None}
    for boot, namespace, runs, lock, locked, inode, closed in itertools.product(
        boots, ("ours", "other"), running, held, yes_no, ("original", "copy"), yes_no
    ):
        if namespace == "ours" and boot != "same":
            continue
        inputs = (boot, namespace, runs, lock, locked, inode, closed)
        row = next(
            row
            for row in rows
            if all(cell == "*" or value in cell.split("/") for value, cell in zip(inputs, row[1:8], strict=True))
        )
        used.add(row[0])
        verdict = process.judge(
            closed=yes_no[closed], locked=yes_no[locked], held=held[lock], original=inode == "original",
            same_boot=boots[boot], same_namespace=namespace == "ours",
            running=running[runs] if namespace == "ours" else None,
        )  # fmt: skip
        assert {"alive": True, "dead": False, "unknown": None}[row[8]] is verdict.alive, (inputs, row)
    assert used == {row[0] for row in rows}, "a row that never decides"


# The box.


def test_the_tables_of_codes_of_a_box_are_the_codes() -> None:
    kinds = {name: code for code, name in _codes(("ring kind", "name", "fields")).items()}
    assert kinds == {name: getattr(box_layout, name) for name in ("PADDING", "EVENT", "LOG", "NOTE", "SAMPLE")}
    types = {name: code for code, name in _codes(("field type", "name", "value")).items()}
    assert types == {name: getattr(box_layout, name) for name in ("TEXT", "INTEGER", "FLOAT", "BOOL", "NONE")}
    assert f"with {box_layout.CUT} added, the value was cut" in TEXT
    limits = {_plain(row[0]): int(_plain(row[1]).split()[0]) for row in _table("box limit", "value", "what")}
    assert limits == {
        name: getattr(box_layout, name)
        for name in ("MAX_RING", "MAX_SLOTS", "MAX_SLOT", "MAX_RECORD", "MAX_PLACES", "MAX_FIELDS")
    }
    assert f"{box_layout.MAX_KEY} bytes for a key" in TEXT
    assert f"{box_layout.MAX_NAME:,} for the first field and {box_layout.MAX_TEXT} for other texts" in TEXT
    assert f"takes {box_layout.HEAD} + `SIZE` bytes" in TEXT
    assert f"takes {box_layout.HEAD} + `COUNT` \u00d7 `SIZE` bytes" in TEXT


def test_the_places_of_a_box_are_what_a_recorder_makes() -> None:
    box = Box(registry.Registry(None, None, None, False), dict)
    made: dict[str, Any] = {name: entry.family for name, entry in box._entries.items()}
    shown: dict[str, str] = {}
    for names, kind, _ in _table("name", "kind", "holds"):
        shown.update(dict.fromkeys([_plain(name) for name in names.split(", ")], kind))
    assert shown == {name: family.cell for name, family in made.items() if family.cell in ("ring", "slots")}
    for name, kind, labels, columns in _table("name", "kind", "labels", "columns"):
        family = made[_plain(name)]
        assert family.kind == kind
        assert family.labelnames == tuple(re.findall(r"`(\w+)`", labels))
        if kind == "struct":
            ours = {column.name for column in family.columns}
            said = set(re.findall(r"`(\w+)`", columns))
            assert said == ours if "the same" not in columns else said < ours
        del made[_plain(name)]
    assert {name for name, family in made.items() if family.cell not in ("ring", "slots")} <= {"mmstats.overflow"}


def test_a_ring_and_its_records_lie_as_the_page_says() -> None:
    ring = struct.pack("<IBBxxQQQ", 64, 1, 1, 11, 12, 13)
    fields = struct.pack("<BBH", 1, 0, 3) + b"abc" + struct.pack("<BBH", 2, 1, 8) + b"n" + struct.pack("<q", -5)
    fields += struct.pack("<BBH", 5, 1, 0) + b"x"
    record = (ring + fields).ljust(64, b"\0")
    data = bytearray(16384)
    data[-8:] = struct.pack("<IBBxx", 8, 0, 0)  # padding
    data[:64] = record
    head = struct.pack("<QQQQ", 16384 + 64, 16384 - 8, 16384, 2)
    family = box_layout.RingFamily("events.info", 16384)
    state = box_layout.decode_ring_state(head, family)
    found, damaged = box_layout.decode_ring(bytes(data), state, state.tail)
    fields_found: list[box_layout.Field] = [("", "abc"), ("n", -5), ("x", None)]
    assert (found, damaged) == ([box_layout.RingRecord(1, 11, 12, 13, True, fields_found)], 0)
    assert (box_layout.RECORD_HEAD, box_layout.SLOT_HEAD) == (32, 48)


def test_slots_lie_as_the_page_says() -> None:
    name = struct.pack("<BBH", 1, 0, 3) + b"abc"
    taken = struct.pack("<QQQQQII", 7, 7, 21, 22, 23, len(name), 0) + name
    free = struct.pack("<QQ", 8, 0)
    table = struct.pack("<QQQ", 2, 256, 0).ljust(64, b"\0") + taken.ljust(256, b"\0") + free.ljust(256, b"\0")
    family = box_layout.SlotsFamily("activities", 2, 256)
    assert family.cell_size == len(table)
    found, damaged = box_layout.decode_slots(table, table, table, family)
    assert (found, damaged) == ([box_layout.SlotRecord(7, 21, 22, 23, False, [("", "abc")])], 0)


def test_the_json_of_an_exception_has_the_keys_of_the_page() -> None:
    inner = CapturedError("E", "m")
    whole = CapturedError(
        "E", "m", (Frame("f", "g", 3, ((3, "x"),), {"a": "1"}, 2),), 4, ("note",), inner, inner, (inner,), 5, 1
    )
    document = json.loads(errorcodec.encode(whole, 1 << 20))
    keys = {name for row in _table("JSON key", "value") for name in re.findall(r"`(\w+)`", row[0])}
    assert set(document) == keys
    assert document["frames"] == [["f", "g", 3, [[3, "x"]], {"a": "1"}, 2]]
    assert f"at most {errorcodec.LARGEST:,} bytes" in TEXT
    assert f"at most {errorcodec._DEEPEST} deep" in TEXT


def test_the_json_of_what_waits_is_that_of_the_page() -> None:
    group = ParkedGroup("task", 3, (FaultFrame("f", 1, "outer"), FaultFrame("f", 2, "inner")))
    assert json.loads(parked.encode([group], 1000)) == [["task", 3, [["f", 1, "outer"], ["f", 2, "inner"]]]]
    assert f"at most {parked.MAX_GROUPS}. A group" in TEXT
    assert f"at most {parked.MAX_FRAMES} frames" in TEXT


def test_the_record_of_an_exit_has_the_texts_of_the_page() -> None:
    ended = Exit(9, 1, 2, "web", (SignalSent(3, 15),), 4, 5, 6, "/sys/fs/cgroup/web")
    made = [re.sub(r"\d+", "", text).partition("=")[0] for text in exits.encode_exit(ended)]
    shown = [re.match(r"`(\w+)=", row[0]) for row in _table("text", "meaning")]
    assert made == [match[1] for match in shown if match is not None]
    assert (exits.EXIT, exits.REPORTED) == ("exit", "reported")
    assert f"the last {exits.SIGNALS} of those" in TEXT
