"""Fields that a program reads and sets as attributes, and static ones, which are set once.

Most of them are mmstats 0.x's: they say what C type a value has, and wrap or round as it does.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any, overload

from . import cells, layout
from .errors import DefinitionError
from .field import Field, no_arithmetic

if TYPE_CHECKING:
    from typing import Never, Unpack

    from .field import Common, CommonAndLabel


class _IntegerField(Field):
    """An integer, read and set as an attribute; it wraps as C's integers do."""

    bits = 64
    signed = True
    access = "value"
    can_stamp = True

    def __init__(self, label: str | None = None, **keywords: Unpack[Common]) -> None:
        super().__init__(label, **keywords)
        self.cell = "i64" if self.signed else "u64"

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Integer(owner, series, self.bits, self.signed, 0, self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> _IntegerField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> int: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: int) -> None: ...


class ByteField(_IntegerField):
    """A signed integer of 8 bits."""

    bits = 8


class ShortField(_IntegerField):
    """A signed integer of 16 bits."""

    bits = 16


class UShortField(_IntegerField):
    """An unsigned integer of 16 bits."""

    bits = 16
    signed = False


class IntField(_IntegerField):
    """A signed integer of 32 bits."""

    bits = 32


class UIntField(_IntegerField):
    """An unsigned integer of 32 bits."""

    bits = 32
    signed = False


class Int64Field(_IntegerField):
    """A signed integer of 64 bits."""


class UInt64Field(_IntegerField):
    """An unsigned integer of 64 bits."""

    signed = False


class DoubleField(Field):
    """A float of double precision, read and set as an attribute."""

    access = "value"
    can_stamp = True
    narrow = False

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Float(owner, series, self.narrow, 0.0, self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> DoubleField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> float: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: float) -> None: ...


class FloatField(DoubleField):
    """A float of single precision, read and set as an attribute."""

    narrow = True


class BoolField(Field):
    """True or False, read and set as an attribute. Over processes, the sum says how many are True."""

    kind = "bool"
    cell = "u64"
    access = "value"
    can_stamp = True

    def __init__(self, initial: bool = False, **keywords: Unpack[CommonAndLabel]) -> None:
        super().__init__(**keywords)
        self.initial = initial

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Bool(owner, series, self.initial, self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> BoolField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> bool: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: Any) -> None: ...


class StringField(Field):
    """A text of at most `size` bytes of UTF-8, read and set as an attribute."""

    kind = "text"
    cell = "buffered"
    aggregate = "all"
    access = "value"
    can_stamp = True

    def __init__(self, size: int = 255, **keywords: Unpack[CommonAndLabel]) -> None:
        super().__init__(**keywords)
        if not 1 <= size <= 32768:
            raise DefinitionError(f"size={size}: a text field holds from 1 to 32768 bytes")
        no_arithmetic(self)
        self.size = size

    def columns(self) -> tuple[layout.Column, ...]:
        return (layout.Column("text", "text", self.size),)

    def make_cell(self, owner: Any, series: Any) -> Any:
        return cells.Text(owner, series, self.size, "", self.stamped)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> StringField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> str: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: str | bytes) -> None: ...


class _StaticField(Field):
    """A value that is set once, from a value or from a callable that is called for it."""

    aggregate = "all"
    access = "static"
    flags = layout.STATIC
    base: Callable[..., Any]

    def __init__(self, label: str | None = None, value: Any = None, **keywords: Unpack[Common]) -> None:
        super().__init__(label, **keywords)
        self.value = value

    def _resolve(self) -> Any:
        value = self.value() if callable(self.value) else self.value
        if value is None:
            raise ValueError(f"{self.name or type(self).__name__}: value must be set")
        return self._convert(value)

    def _convert(self, value: Any) -> Any:
        """`value` as the cell takes it. Raises before there is a cell, and so before anything is declared."""
        raise NotImplementedError

    def _cell(self, owner: Any, series: Any, value: Any) -> Any:
        """A cell that begins with `value`."""
        raise NotImplementedError

    def make_cell(self, owner: Any, series: Any) -> Any:
        # Without an owner it is the cell of a removed model, whose value nobody sees.
        return self._cell(owner, series, self._resolve() if owner is not None else 0)

    def family(self, name: str) -> layout.Family:
        if self.value is None:
            raise ValueError(f"{name}: value must be set")
        return super().family(name)

    def rebind(self, cell: Any) -> None:
        if callable(self.value):
            try:
                cell.assign(self._resolve())
            except Exception:  # the program's own callable, which may fail in a forked child
                return

    if TYPE_CHECKING:

        def __set__(self, instance: object, value: Never) -> None: ...


class _StaticIntegerField(_StaticField):
    bits = 64
    signed = True

    def __init__(self, label: str | None = None, value: Any = None, **keywords: Unpack[Common]) -> None:
        super().__init__(label, value, **keywords)
        self.cell = "i64" if self.signed else "u64"

    def _convert(self, value: Any) -> int:
        return index(value)

    def _cell(self, owner: Any, series: Any, value: Any) -> Any:
        return cells.Integer(owner, series, self.bits, self.signed, value)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> _StaticIntegerField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> int: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class StaticUIntField(_StaticIntegerField):
    """An unsigned integer of 32 bits that is set once."""

    bits = 32
    signed = False


class StaticInt64Field(_StaticIntegerField):
    """A signed integer of 64 bits that is set once."""


class StaticUInt64Field(_StaticIntegerField):
    """An unsigned integer of 64 bits that is set once."""

    signed = False


class StaticDoubleField(_StaticField):
    """A float of double precision that is set once."""

    narrow = False

    def _convert(self, value: Any) -> float:
        return float(value)

    def _cell(self, owner: Any, series: Any, value: Any) -> Any:
        return cells.Float(owner, series, self.narrow, value)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> StaticDoubleField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> float: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class StaticFloatField(StaticDoubleField):
    """A float of single precision that is set once."""

    narrow = True


class StaticTextField(_StaticField):
    """A text that is set once; `size` is the most it takes, in bytes of UTF-8."""

    kind = "text"
    cell = "buffered"

    def __init__(
        self, label: str | None = None, value: Any = None, size: int = 256, **keywords: Unpack[Common]
    ) -> None:
        super().__init__(label, value, **keywords)
        self.size = size

    def columns(self) -> tuple[layout.Column, ...]:
        return (layout.Column("text", "text", self.size),)

    def _convert(self, value: Any) -> str:
        return cells.as_text(value)

    def _cell(self, owner: Any, series: Any, value: Any) -> Any:
        return cells.Text(owner, series, self.size, value)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> StaticTextField: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> str: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
