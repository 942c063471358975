"""The update protocol, checked after every single store: a kill there, a reader there, an exception there.

The uncompiled methods run over memory that notes each store. Both implementations are one source,
so what holds for these stores in this order holds for the compiled ones.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mmstats
from mmstats import layout, reader, schema, values

SOURCE = Path(mmstats.__file__).with_name("cells.py")
CELL = 8  # where the cell lies in the fake file; 0 stands for no cell


class Boom(Exception):
    """What a store raises in these tests."""


class Memory:
    """Bytes that remember what they were before each store, and fail at a chosen one."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.images = [bytes(self.data)]
        self.fail_at: int | None = None
        self.fail_after = False

    def store(self, at: int, data: bytes) -> None:
        failing = self.fail_at == len(self.images)
        if failing and not self.fail_after:
            self.fail_at = None
            raise Boom
        self.data[at : at + len(data)] = data
        self.images.append(bytes(self.data))
        if failing:
            self.fail_at = None
            raise Boom


class Items:
    """Looks like ``memoryview.cast(format)`` from `base` on."""

    def __init__(self, memory: Memory, base: int, format_: str) -> None:
        self.memory = memory
        self.base = base
        self.format = struct.Struct("<" + format_)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, index: int) -> Any:
        return self.format.unpack_from(self.memory.data, self.base + 8 * index)[0]

    def __setitem__(self, index: int, value: Any) -> None:
        self.memory.store(self.base + 8 * index, self.format.pack(value))


class Bytes:
    """Looks like a memoryview of bytes from `base` on. A copy is a store for each byte."""

    def __init__(self, memory: Memory, base: int) -> None:
        self.memory = memory
        self.base = base

    def __getitem__(self, where: slice) -> bytes:
        return bytes(self.memory.data[self.base :][where])

    def __setitem__(self, where: slice, data: bytes) -> None:
        start, stop, step = where.indices(len(self.memory.data) - self.base)
        assert (step, stop - start) == (1, len(data))
        for index in range(len(data)):
            self.memory.store(self.base + start + index, data[index : index + 1])


@pytest.fixture(scope="module")
def uncompiled() -> ModuleType:
    """A copy of `mmstats.cells` from its source, whatever the program itself runs."""
    spec = importlib.util.spec_from_file_location("mmstats.cells_under_test", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.COMPILED
    module.ALIVE = [1]  # type: ignore[attr-defined]
    return module


class Case:
    """One kind of cell, updates of it, and what a reader must see after each."""

    def __init__(
        self, name: str, field: mmstats.Field, make: Callable[[ModuleType], Any], updates: list[Any],
        update: Callable[[Any, Any], None], expect: Callable[[list[Any]], Any],
    ) -> None:  # fmt: skip
        self.name = name
        self.family = field.family(name)
        self.make = make
        self.updates = updates
        self.update = update
        self.expect = expect
        definitions = layout.encode_family(0, self.family) + layout.encode_series(0, (), CELL)
        self.schema = schema.schema_of(definitions)

    def start(self, module: ModuleType) -> tuple[Any, Memory]:
        """A cell over fresh memory, reset."""
        memory = Memory(CELL + self.family.cell_size)
        struct.pack_into("<Q", memory.data, CELL + 16, self.family.buffer_size)
        cell = self.make(module)
        cell._view = memory
        cell._w = Items(memory, CELL, "Q")
        cell._f = Items(memory, CELL, "d")
        cell._b = Bytes(memory, CELL)
        cell.reset()
        memory.images = [bytes(memory.data)]
        return cell, memory

    def value(self, raw: Any) -> Any:
        value = values.build(self.family, raw)
        if isinstance(value, values.HistogramValue):
            return value.count, value.sum, value.buckets
        if isinstance(value, values.WindowValue):
            return value.count, value.sum, value.last, value.min, value.max, value.window_count, value.window_sum
        if type(value) is values.SampleValue:
            return value.count, value.sum
        stamp = raw[-1] if self.family.flags & layout.STAMPED else None
        return value.value if stamp is None else (value.value, stamp)

    def seen(self, image: bytes) -> Any:
        """What a reader finds in a file that will not change any more."""
        seq = struct.unpack_from("<Q", image, CELL + 8)[0]
        size = self.family.buffer_size
        at = CELL + 24 + (seq & 1) * size
        return self.value(self.schema.compounds[0][0].plan.packed.unpack(image[at : at + size]))


BOUNDS = (1.0, 2.0, 3.0)
WINDOW = 3


def _histogram(samples: list[float]) -> Any:
    buckets = [0, 0, 0, 0]
    for sample in samples:
        buckets[sum([sample > bound for bound in BOUNDS])] += 1
    return len(samples), sum(samples), tuple(buckets)


def _window(samples: list[float]) -> Any:
    recent = samples[-WINDOW:]
    last, low, high = (samples[-1], min(samples), max(samples)) if samples else (None, None, None)
    return len(samples), sum(samples), last, low, high, len(recent), sum(recent)


def _pair(updates: list[dict[str, Any]]) -> dict[str, Any]:
    merged = {"a": 0, "b": 0.0, "c": ""}
    for update in updates:
        merged.update(update)
    return merged


PAIR = mmstats.StructField({"a": int, "b": float, "c": (str, 9)})
TEXTS = ["abc", "", "zz", "a longer one", "é", "a longer one", "q"]

CASES = [
    Case(
        "histogram", mmstats.HistogramField(buckets=BOUNDS), lambda cells: cells.Histogram(None, None, BOUNDS),
        # The same bucket twice, neighbours, both ends, and back: the buffers' difference moves along.
        [0.5, 0.5, 1.5, 9.0, 2.5, 0.25, 9.5, 9.5, 1.0], lambda cell, sample: cell.observe(sample), _histogram,
    ),
    Case(
        "average", mmstats.AverageField(), lambda cells: cells.Average(None, None),
        [1.0, 2.0, 4.0, 8.0, 16.0], lambda cell, sample: cell.add(sample),
        lambda samples: (len(samples), sum(samples)),
    ),
    Case(
        "window", mmstats.MovingAverageField(size=WINDOW), lambda cells: cells.Window(None, None, WINDOW),
        [4.0, 2.0, 8.0, 16.0, 1.0, 32.0, 64.0, 3.0], lambda cell, sample: cell.record(sample), _window,
    ),
    Case(
        "text", mmstats.StringField(size=16), lambda cells: cells.Text(None, None, 16),
        TEXTS, lambda cell, text: cell.set(text), lambda texts: texts[-1] if texts else "",
    ),
    Case(
        "struct", PAIR, lambda cells: cells.Struct(None, None, PAIR._encode, PAIR._coerce, {"a": 0, "b": 0.0, "c": ""}),
        [{"a": 1, "b": 1.0, "c": "one"}, {"a": 2}, {"b": 3.5}, {"c": "ninechars"}, {"a": -1, "c": ""}],
        lambda cell, update: cell.set(**update), _pair,
    ),
]  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def _stores(case: Case, module: ModuleType) -> tuple[list[bytes], list[int]]:
    """The memory after each store of all updates, and how many stores there were after each update."""
    cell, memory = case.start(module)
    ends = [0]
    for update in case.updates:
        case.update(cell, update)
        ends.append(len(memory.images) - 1)
    return memory.images, ends


@every_case
def test_a_kill_after_any_store_leaves_the_value_before_or_after(case: Case, uncompiled: ModuleType) -> None:
    images, ends = _stores(case, uncompiled)
    assert len(images) > 4 * len(case.updates)
    for number, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
        before, after = case.expect(case.updates[:number]), case.expect(case.updates[: number + 1])
        seen = [case.seen(image) for image in images[start : end + 1]]
        assert seen[0] == before
        assert seen[-1] == after
        assert all([value in (before, after) for value in seen])
        assert seen.index(after) == len(seen) - 1 or before == after, "published before the last store"


@every_case
def test_a_dead_writers_file_is_accepted_after_any_store(
    case: Case, uncompiled: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = _stores(case, uncompiled)
    for still in (True, False):
        for image in images:
            monkeypatch.setattr(reader, "os", SimpleNamespace(pread=lambda _, n, at, image=image: image[at : at + n]))
            _, [raw], problems = reader._read_values(0, case.schema, still)
            assert problems == ()
            assert case.value(raw) == case.seen(image)


@every_case
def test_a_reader_at_any_three_moments_accepts_only_whole_values(
    case: Case, uncompiled: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, ends = _stores(case, uncompiled)
    images, ends = images[: ends[4] + 1], ends[:5]
    possible = [case.expect(case.updates[:number]) for number in range(len(ends))]
    moments = range(len(images))
    served: list[bytes] = []
    reads = 0

    def pread(_: int, size: int, at: int) -> bytes:
        nonlocal reads
        reads += 1
        return served[min(reads, len(served)) - 1][at : at + size]

    monkeypatch.setattr(reader, "os", SimpleNamespace(pread=pread))
    at_once = retried = 0
    # Text and struct are stored byte by byte: of their many moments take each third for the middle one.
    step = 1 if len(images) < 40 else 3
    for i in moments:
        for j in range(i, len(images), step):
            for k in range(j, len(images), step):
                served[:] = [images[i], images[j], images[k]]
                reads = 0
                _, [raw], problems = reader._read_values(0, case.schema, False)
                assert problems == ()
                assert case.value(raw) in possible, (i, j, k)
                if reads == 3:
                    at_once += 1
                else:
                    retried += 1
    assert at_once > 100 and retried > 100, "not both ways were taken"


@every_case
def test_an_accepted_buffer_was_not_touched_between_the_reads(case: Case, uncompiled: ModuleType) -> None:
    # A read of many bytes is no moment: its bytes may come from any moments in between.
    images, _ = _stores(case, uncompiled)
    size = case.family.buffer_size
    accepted = 0
    for i, first in enumerate(images):
        seq = struct.unpack_from("<Q", first, CELL + 8)[0]
        at = CELL + 24 + (seq & 1) * size
        for last in images[i:]:
            if struct.unpack_from("<Q", last, CELL)[0] > seq + 1:
                break
            accepted += 1
            assert last[at : at + size] == first[at : at + size]
    assert accepted > len(images)


def _faults(case: Case, module: ModuleType) -> Iterator[tuple[int, int, bool]]:
    """Each update, each of its stores, and whether the exception comes instead of the store or behind it.

    Behind the last one, which publishes, nothing is left that could raise.
    """
    _, ends = _stores(case, module)
    for number, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
        for store in range(1, end - start + 1):
            yield number, store, False
            if store < end - start:
                yield number, store, True


@every_case
def test_an_exception_at_any_store_leaves_a_writer_that_goes_on_rightly(case: Case, uncompiled: ModuleType) -> None:
    faults = 0
    for number, store, after in _faults(case, uncompiled):
        cell, memory = case.start(uncompiled)
        done = []
        for index, update in enumerate(case.updates):
            if index == number:
                memory.fail_at = len(memory.images) - 1 + store
                memory.fail_after = after
                with pytest.raises(Boom):
                    case.update(cell, update)
                faults += 1
            else:
                case.update(cell, update)
                done.append(update)
            assert case.seen(memory.data) == case.expect(done), (number, store, after, index)
    assert faults >= 7 * len(case.updates)


@every_case
def test_exceptions_at_two_updates_running_do_not_add_up(case: Case, uncompiled: ModuleType) -> None:
    stores = [store for number, store, _ in _faults(case, uncompiled) if number == 1][::2]
    for first in stores:
        for second in stores:
            cell, memory = case.start(uncompiled)
            case.update(cell, case.updates[0])
            for update, store in ((case.updates[1], first), (case.updates[2], second)):
                memory.fail_at = len(memory.images) - 1 + store
                try:
                    case.update(cell, update)
                except Boom:
                    continue
                memory.fail_at = None
            if case.seen(memory.data) != case.expect(case.updates[:1]):
                continue  # one of them was short, and went through
            done = case.updates[:1]
            for update in case.updates[3:]:
                case.update(cell, update)
                done.append(update)
                assert case.seen(memory.data) == case.expect(done), (first, second)


def test_the_moving_mean_stays_exact_over_many_rounds_and_faults(uncompiled: ModuleType) -> None:
    (case,) = [case for case in CASES if case.name == "window"]
    cell, memory = case.start(uncompiled)
    done: list[float] = []
    for number in range(200):
        sample = float(number * 37 % 64)
        if number % 3 == 0:
            memory.fail_at = len(memory.images) + number // 3 % 8
            with pytest.raises(Boom):
                case.update(cell, 1e6)
        case.update(cell, sample)
        done.append(sample)
        assert case.seen(memory.data) == case.expect(done)


def test_a_stamped_text_and_its_time_are_of_one_update(uncompiled: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000, 2000))
    monkeypatch.setattr(uncompiled, "wall_ns", lambda: next(ticks))
    case = Case(
        "latest", mmstats.StringField(size=5, aggregate="last"),
        lambda cells: cells.Text(None, None, 5, "", True), ["one", "two", "three"],
        lambda cell, text: cell.set(text),
        lambda texts: (texts[-1], 999 + len(texts)) if texts else ("", 0),
    )  # fmt: skip
    images, ends = _stores(case, uncompiled)
    for number, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
        possible = [case.expect(case.updates[:number]), case.expect(case.updates[: number + 1])]
        assert all([case.seen(image) in possible for image in images[start : end + 1]])


def test_arguments_that_are_refused_store_nothing(uncompiled: ModuleType) -> None:
    refused: dict[str, list[Any]] = {
        "histogram": ["x", None, float("nan")],
        "average": ["x", None, float("nan")],
        "window": ["x", None, float("nan")],
        "text": [None, 3],
        "struct": [{"a": "x"}, {"b": "x"}, {"nothing": 1}, {"a": 1, "b": None}],
    }
    for case in CASES:
        cell, memory = case.start(uncompiled)
        case.update(cell, case.updates[0])
        for argument in refused[case.name]:
            stores = len(memory.images)
            try:
                case.update(cell, argument)
            except (TypeError, ValueError, struct.error):
                pass
            changed = case.seen(memory.data) != case.expect(case.updates[:1])
            assert not changed, (case.name, argument)
            if case.name in ("text", "struct") or argument != argument:
                assert len(memory.images) == stores, (case.name, argument)
        case.update(cell, case.updates[1])
        assert case.seen(memory.data) == case.expect(case.updates[:2])
