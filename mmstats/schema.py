"""What a file holds and where: its definitions, parsed once and then looked up again.

Definitions hold no values, so the files of one program's workers begin with the same definitions
or have the same ones altogether. Whoever reads a thousand files parses them once.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from itertools import pairwise

from . import layout
from .errors import FormatError

_WORDS = {"u64": "Q", "i64": "q", "f64": "d"}


class Plan:
    """A family as it stands in files: its definition, and the keys of its series."""

    __slots__ = ("family", "keys", "packed")

    def __init__(self, family: layout.Family) -> None:
        self.family = family
        self.keys: dict[tuple[str, ...], Key] = {}
        self.packed = _buffer_format(family) if family.cell == "buffered" else None

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


def _buffer_format(family: layout.Family) -> struct.Struct:
    parts = ["<"]
    for column in family.columns:
        if column.type == "text":
            parts.append(f"Q{column.count}s{layout.align(column.count) - column.count}x")
        else:
            parts.append(f"{column.count}{_WORDS[column.type]}")
    return struct.Struct("".join(parts))


class Schema:
    """The definitions of a file.

    words: keys of the cells of one word, in the order in which `unpack` returns them
    offsets: where each of them lies in the file
    compounds: ``(key, offset)`` of all other cells: stamped words and buffered ones
    start, end: the part of the file that all cells lie in
    problems: what could not be understood, for people
    """

    __slots__ = (
        "_ends", "_families", "_identity", "_records", "_series", "compounds", "definitions", "end", "offsets",
        "problems", "start", "unpack", "words",
    )  # fmt: skip

    def __init__(self, definitions: bytes, base: Schema | None, whole: int) -> None:
        """Parse `definitions`, of which the first `whole` records are those of `base`."""
        self.definitions = definitions
        if base is None:
            self._ends: list[tuple[int, int, int]] = []
            self._series: list[tuple[Key, int]] = []
            self._families: list[tuple[int, Plan]] = []
            self._identity: list[tuple[str, tuple[str, ...]]] = []
            self._records: dict[bytes, Key] = {}
            at = 0
        else:
            self._ends = base._ends[:whole]
            at, families, series = self._ends[-1] if whole else (0, 0, 0)
            self._families = base._families[:families]
            self._series = base._series[:series]
            self._identity = list(base._identity)
            # Good as long as the numbers stand for the same families.
            self._records = base._records if families == len(base._families) else {}
        self.problems: tuple[str, ...] = ()
        problems: list[str] = []
        self._parse(at, problems)
        self._arrange(problems)
        self.problems = tuple(problems)

    def _parse(self, at: int, problems: list[str]) -> None:
        definitions = self.definitions
        plans = dict(self._families)
        series, ends, families = self._series, self._ends, self._families
        unpack = layout.RECORD.unpack_from
        end = len(definitions)
        records = self._records
        get = records.get
        if len(records) > MAX_KEYS:
            records.clear()
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
                if kind == layout.SERIES:
                    key = get(body)
                    if key is None:
                        key = records[body] = _series(body, plans, flags)
                    if cell & 7 or not 0 < cell < 1 << 40:
                        raise FormatError("damaged: a series points to no cell")
                    series.append((key, cell))
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
            ends.append((at, len(families), len(series)))

    def _arrange(self, problems: list[str]) -> None:
        """Work out how to take all values out of the file at once."""
        series = self._series
        if any(a[1] > b[1] for a, b in pairwise(series)):
            series = sorted(series, key=lambda item: item[1])
        self.start = series[0][1] if series else 0
        at = self.start
        words, offsets, formats, compounds = [], [], ["<"], []
        for key, cell in series:
            if cell < at:
                problems.append(f"damaged: a cell of {key.plan.family.name!r} overlaps another one")
                continue
            if key.plan.packed is None and not key.plan.family.flags & layout.STAMPED:
                if cell > at:
                    formats.append(f"{cell - at}x")
                formats.append(_WORDS[key.plan.family.cell])
                words.append(key)
                offsets.append(cell)
                at = cell + 8
            else:
                if cell > at:
                    formats.append(f"{cell - at}x")
                size = key.plan.family.cell_size
                formats.append(f"{size}x")
                compounds.append((key, cell))
                at = cell + size
            if at - self.start > layout.MAX_REGION:
                raise FormatError(f"damaged: its values span more than the limit of {layout.MAX_REGION} bytes")
        self.end = at
        self.words = words
        self.offsets = offsets
        self.compounds = compounds
        self.unpack = struct.Struct("".join(formats)).unpack

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

    def common(self, definitions: bytes) -> int:
        """How many of the first records are also the first ones of `definitions`."""
        low, high = 0, len(self._ends)
        while low < high:
            middle = (low + high + 1) // 2
            end = self._ends[middle - 1][0]
            if self.definitions[:end] == definitions[:end]:
                low = middle
            else:
                high = middle - 1
        return low


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


def _short(definitions: bytes) -> tuple[int, bytes]:
    """A key that is quick to make: the hash of all definitions would take longer than to compare them."""
    return len(definitions), definitions[-32:]


def known_schema(definitions: bytes) -> Schema | None:
    """The schema of these definitions, if they were seen before."""
    for schema in _schemas.get(_short(definitions), ()):
        if schema.definitions == definitions:
            return schema
    return None


def schema_of(definitions: bytes) -> Schema:
    """The schema of these definitions; parsed only as far as no earlier file had them."""
    global _remembered
    known = known_schema(definitions)
    if known is not None:
        return known
    best, whole = None, 0
    for base in _bases:
        shared = base.common(definitions)
        if shared > whole:
            best, whole = base, shared
    schema = Schema(definitions, best, whole)
    if not best or whole * 2 < len(schema._ends):
        _bases.insert(0, schema)
        del _bases[MAX_BASES:]
    _schemas.setdefault(_short(definitions), []).append(schema)
    _remembered += len(definitions) + 4096
    while _remembered > MAX_REMEMBERED and len(_schemas) > 1:
        for forgotten in _schemas.popitem(last=False)[1]:
            _remembered -= len(forgotten.definitions) + 4096
    return schema
