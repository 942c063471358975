"""What a file holds and where: its definitions, parsed once and then looked up again.

Definitions hold no values, so the files of one program's workers begin with the same definitions
or have the same ones altogether. Whoever reads a thousand files parses them once.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import OrderedDict
from typing import Any

from . import layout
from .errors import FormatError

_WORDS = {"u64": "Q", "i64": "q", "f64": "d"}


class Plan:
    """A family as it stands in files: its definition, how its cells are read, and its series' keys.

    code: the type of a cell that is one word, as `array` has it; empty for others
    """

    __slots__ = ("buffer", "code", "family", "keys", "packed", "size", "texts")

    def __init__(self, family: layout.Family) -> None:
        self.family = family
        self.size = family.cell_size
        self.buffer = family.buffer_size
        self.code = _WORDS[family.cell] if self.size == 8 else ""
        self.keys: dict[tuple[str, ...], Key] = {}
        self.packed = _buffer_format(family) if family.cell == "buffered" else None
        self.texts = _texts(family)

    def key(self, labels: tuple[str, ...], flags: int) -> Key:
        key = self.keys.get(labels)
        if key is None:
            key = self.keys[labels] = Key(self, labels, flags)
        return key


class Key:
    """A family and a set of label values; the same object in every file of the same definitions."""

    __slots__ = ("flags", "labels", "plan")

    def __init__(self, plan: Plan, labels: tuple[str, ...], flags: int) -> None:
        self.plan = plan
        self.labels = labels
        self.flags = flags


def _texts(family: layout.Family) -> tuple[tuple[int, int], ...]:
    """Where a text's length stands in an unpacked buffer, and what it may be at most, for each text."""
    found, at = [], 0
    for column in family.columns:
        if column.type == "text":
            found.append((at, column.count))
        at += 2 if column.type == "text" else column.count
    return tuple(found)


def _buffer_format(family: layout.Family) -> struct.Struct:
    parts = ["<"]
    for column in family.columns:
        if column.type == "text":
            parts.append(f"Q{column.count}s{layout.align(column.count) - column.count}x")
        else:
            parts.append(f"{column.count}{_WORDS[column.type]}")
    return struct.Struct("".join(parts))


#: A place in definitions, and how many families, series and identity texts come before it.
End = tuple[int, int, int, int]


#: Where there are so many times more words in a file than values, the file is not a usual one.
_HOLES = 64


class Schema:
    """The definitions of a file.

    words: keys of the cells of one word, in the order in which they lie in the file
    places: where each of them lies, in words from `start`
    compounds: ``(key, offset)`` of all other cells: stamped words and buffered ones
    start, size: the part of the file that all cells lie in
    problems: what could not be understood, for people
    """

    # Numbers beside each other rather than tuples of them: a thousand schemas of a hundred series
    # would be a hundred thousand objects for the garbage collector to visit.
    __slots__ = (
        "_cells", "_codes", "_ends", "_families", "_identity", "_keys", "_records", "compounds", "definitions",
        "places", "problems", "size", "start", "words",
    )  # fmt: skip

    def __init__(self, definitions: bytes, base: Schema | None = None, shared: End = (0, 0, 0, 0)) -> None:
        """Parse `definitions`, which begin as those of `base` do, as far as `shared` says."""
        self.definitions = definitions
        at, families, series, identities = shared
        self._families: list[tuple[int, Plan]] = base._families[:families] if base else []
        self._keys: list[Key] = base._keys[:series] if base else []
        self._cells: list[int] = base._cells[:series] if base else []
        self._identity: list[tuple[str, tuple[str, ...]]] = base._identity[:identities] if base else []
        # Good as long as the numbers stand for the same families.
        self._records: dict[bytes, Key] = base._records if base and families == len(base._families) else {}
        self._ends: list[End] | None = None
        problems: list[str] = []
        self._parse(at, problems)
        self._arrange(problems)
        self.problems = tuple(problems)

    def _parse(self, at: int, problems: list[str]) -> None:
        definitions = self.definitions
        plans = dict(self._families)
        keys, cells, families = self._keys, self._cells, self._families
        unpack = layout.RECORD.unpack_from
        end = len(definitions)
        records = self._records
        if len(records) > MAX_KEYS:
            records.clear()
        get = records.get
        while at < end:
            if end - at < 16:
                problems.append(_damaged(at))
                break
            size, kind, flags, cell = unpack(definitions, at)
            after = at + size
            if size < 16 or size & 7 or after > end or size > layout.MAX_RECORD:
                problems.append(_damaged(at))
                break
            body = definitions[at + 16 : after]
            try:
                if kind == 3:  # layout.SERIES: this is where the time goes
                    key = get(body)
                    if key is None:
                        key = records[body] = _series(body, plans, flags)
                    if cell & 7 or not 0 < cell < 1 << 40:
                        raise FormatError("damaged: a series points to no cell")
                    keys.append(key)
                    cells.append(cell)
                elif kind == layout.FAMILY:
                    number, plan = _family(body, flags)
                    if number in plans:
                        raise FormatError("damaged: two families have one number")
                    plans[number] = plan
                    families.append((number, plan))
                    if records:
                        self._records = records = {}
                        get = records.get
                elif kind == layout.IDENTITY:
                    self._identity.append(layout.decode_identity(body))
            except FormatError as error:
                problems.append(f"{error} (at byte {at} of the definitions)")
            at = after

    def _arrange(self, problems: list[str]) -> None:
        """Work out where all values lie, in the order in which they do."""
        keys, cells = self._keys, self._cells
        if cells != sorted(cells):
            order = sorted(range(len(cells)), key=cells.__getitem__)
            keys, cells = [keys[i] for i in order], [cells[i] for i in order]
        words, places, compounds = [], [], []
        at = start = cells[0] if cells else 0
        for key, cell in zip(keys, cells, strict=True):
            plan = key.plan
            if cell < at:
                problems.append(f"damaged: a cell of {plan.family.name!r} overlaps another one")
                continue
            if plan.code:
                words.append(key)
                places.append((cell - start) >> 3)
            else:
                compounds.append((key, cell))
            at = cell + plan.size
        if at - start > layout.MAX_REGION:
            raise FormatError(f"damaged: its values span more than the limit of {layout.MAX_REGION} bytes")
        self.start, self.size = start, at - start
        self.words = words
        self.places = places
        self.compounds = compounds
        self._codes = {plan.code for _, plan in self._families if plan.code}

    def arrays(self, several: list[bytes]) -> dict[str, array[Any]]:
        """The bytes of all cells of several files, one after the other, as words of each type there is."""
        if len(several) == 1:
            whole = several[0][: len(several[0]) // 8 * 8]
        else:
            whole = b"".join([data.ljust(self.size, b"\0") for data in several])
        found = {code: array(code, whole) for code in self._codes}
        if sys.byteorder != "little":
            for words in found.values():
                words.byteswap()
        return found

    def values(self, data: bytes) -> list[Any]:
        """The values of `words` in one file; None for those that lie beyond the end of `data`."""
        there = len(data) // 8
        if there > _HOLES * (len(self.words) + 512):
            # Nothing but holes: as arrays they would take several times the memory.
            unpack = {code: struct.Struct(f"<{code}").unpack_from for code in self._codes}
            return [
                unpack[key.plan.code](data, 8 * place)[0] if place < there else None
                for key, place in zip(self.words, self.places, strict=True)
            ]
        found = self.arrays([data])
        return [
            found[key.plan.code][place] if place < there else None
            for key, place in zip(self.words, self.places, strict=True)
        ]

    def key_at(self, offset: int) -> Key | None:
        """The series whose cell holds the byte at `offset` of the file."""
        for cell, key in zip(self._cells, self._keys, strict=True):
            if cell <= offset < cell + key.plan.size:
                return key
        return None

    @property
    def identity(self) -> dict[str, tuple[str, ...]]:
        """What the definitions themselves say of the process; it overrules what stands before them."""
        return dict(self._identity)

    @property
    def families(self) -> list[layout.Family]:
        """All families, those without a series included."""
        return [plan.family for _, plan in self._families]

    @property
    def series(self) -> int:
        """How many series there are."""
        return len(self.words) + len(self.compounds)

    def common(self, definitions: bytes) -> End:
        """How far other definitions are the same, to the end of a record. Only where there are no problems."""
        if self._ends is None:
            self._ends = self._find_ends()
        low, high = 0, len(self._ends) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if definitions.startswith(self.definitions[: self._ends[middle][0]]):
                low = middle
            else:
                high = middle - 1
        return self._ends[low]

    def _find_ends(self) -> list[End]:
        counts = {layout.FAMILY: 0, layout.SERIES: 0, layout.IDENTITY: 0}
        ends = [(0, 0, 0, 0)]
        for at, size, kind, _, _ in layout.records(self.definitions, 0, len(self.definitions)):
            if kind in counts:
                counts[kind] += 1
            ends.append((at + size, counts[layout.FAMILY], counts[layout.SERIES], counts[layout.IDENTITY]))
        return ends

    def is_covered(self, shared: End) -> bool:
        """Whether all families, if not all series, lie in the part that `shared` says."""
        return shared[1] == len(self._families) and shared[0] < len(self.definitions)


def _damaged(at: int) -> str:
    return f"damaged: what follows byte {at} of the definitions is no record; all before it was read"


_plans: OrderedDict[tuple[int, bytes], tuple[int, Plan]] = OrderedDict()
_schemas: OrderedDict[tuple[int, bytes], list[Schema]] = OrderedDict()
_bases: list[Schema] = []
_remembered = 0

#: Bytes of definitions that are remembered. Hostile files can make a reader forget, not grow.
MAX_REMEMBERED = 8 << 20
MAX_PLANS = 4096
MAX_KEYS = 65536
MAX_BASES = 8


def _family(body: bytes, flags: int) -> tuple[int, Plan]:
    known = _plans.get((flags, body))
    if known is None:
        number, family = layout.decode_family(body, flags)
        known = (number, Plan(family))
        if len(_plans) >= MAX_PLANS:
            _plans.clear()
        _plans[flags, body] = known
    return known


def _series(body: bytes, plans: dict[int, Plan], flags: int) -> Key:
    number, labels = layout.decode_series(body)
    plan = plans.get(number)
    if plan is None:
        raise FormatError(f"damaged: a series belongs to the family {number}, which is not defined")
    if len(labels) != len(plan.family.labelnames):
        raise FormatError(f"damaged: a series of {plan.family.name!r} has {len(labels)} label values")
    if len(plan.keys) >= MAX_KEYS:
        plan.keys.clear()
    return plan.key(labels, flags)


def _short(data: bytes, start: int, end: int) -> tuple[int, bytes]:
    """A key that is quick to make: the hash of all definitions would take longer than to compare them."""
    return end - start, data[max(end - 32, start) : end]


def known_schema(data: bytes, start: int, end: int) -> Schema | None:
    """The schema of the definitions ``data[start:end]``, if they were seen before."""
    for schema in _schemas.get(_short(data, start, end), ()):
        if data.startswith(schema.definitions, start):
            return schema
    return None


def schema_of(definitions: bytes) -> Schema:
    """The schema of these definitions; parsed only as far as no earlier file had them."""
    global _remembered
    known = known_schema(definitions, 0, len(definitions))
    if known is not None:
        return known
    best, shared = None, (0, 0, 0, 0)
    for base in _bases:
        common = base.common(definitions)
        if common > shared:
            best, shared = base, common
    schema = Schema(definitions, best, shared)
    # Labels that come in another order in each process make no new base: nobody else has that order.
    if not schema.problems and shared[0] * 2 < len(definitions) and not (best and best.is_covered(shared)):
        _bases.insert(0, schema)
        del _bases[MAX_BASES:]
    _schemas.setdefault(_short(definitions, 0, len(definitions)), []).append(schema)
    _remembered += len(definitions) + 4096
    while _remembered > MAX_REMEMBERED and len(_schemas) > 1:
        for forgotten in _schemas.popitem(last=False)[1]:
            _remembered -= len(forgotten.definitions) + 4096
    return schema
