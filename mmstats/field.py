"""`Field`: what all fields share. The fields themselves are in `fields` and `attribute_fields`.

A field is a definition and holds no value; a model's instance gets a cell for each of its fields.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import layout
from .errors import DefinitionError

if TYPE_CHECKING:
    from typing import TypedDict

    class Common(TypedDict, total=False):
        """What all fields take, but for `label`, which some take by position."""

        name: str | None
        help: str
        unit: str
        labelnames: Iterable[str]
        aggregate: str | None

    class CommonAndLabel(Common, total=False):
        label: str | None


_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def check_texts(keyword: str, texts: Iterable[Any]) -> None:
    """Refuse what can't stand in a definition."""
    for text in texts:
        try:
            text.encode()
        except (AttributeError, UnicodeEncodeError):
            raise DefinitionError(f"{keyword}={text!r}: a text is needed") from None


def _caller() -> str:
    """Where the program defines what it is defining: ``file:line``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Field:
    """What all fields share.

    name: what is exposed; the attribute's name if left out (`label` is mmstats 0.x's word for it)
    help: one line for people
    unit: the unit of the value, such as ``seconds`` or ``bytes``
    labelnames: names of labels; the field then has ``labels()`` and a value for each label set
    aggregate: how the values of several processes become one: sum, min, max, mean, last, all
    """

    kind = "gauge"
    cell = "f64"
    aggregate = "sum"
    flags = 0
    #: How a model shows it: "object" has methods, "value" is read and set as an attribute,
    #: "fresh" is a new object at each access, "static" can't be set.
    access = "object"

    def __init__(
        self,
        label: str | None = None,
        *,
        name: str | None = None,
        help: str = "",
        unit: str = "",
        labelnames: Iterable[str] = (),
        aggregate: str | None = None,
    ) -> None:
        self.name = name or label
        self.label = self.name
        self.help = help
        self.unit = unit
        self.labelnames = (labelnames,) if isinstance(labelnames, str) else tuple(labelnames)
        self.place = _caller()
        for keyword, texts in (("name", (self.name or "",)), ("help", (help,)), ("unit", (unit,))):
            check_texts(keyword, texts)
        check_texts("labelnames", self.labelnames)
        if "" in self.labelnames:
            raise DefinitionError(f"labelnames={self.labelnames!r}: a label needs a name")
        if aggregate is not None:
            if aggregate not in layout.AGGREGATE_CODES:
                known = ", ".join(layout.AGGREGATE_CODES)
                raise DefinitionError(f"aggregate={aggregate!r} is unknown: it is one of {known}")
            self.aggregate = aggregate
        if len(set(self.labelnames)) != len(self.labelnames):
            raise DefinitionError(f"a label's name stands twice in labelnames={self.labelnames!r}")
        self.stamped = self.aggregate == "last" and self.can_stamp

    #: Whether the time of the last change can stand beside the value, which ``last`` needs.
    can_stamp = False

    def family(self, name: str) -> layout.Family:
        """The definition that goes into the file."""
        columns = self.columns()
        if self.stamped and columns:
            columns += (layout.Column("time", "u64"),)
        return layout.Family(
            name, self.kind, self.cell, self.aggregate, self.help, self.unit, self.labelnames, columns,
            self.bounds(), self.states(), self.flags | (layout.STAMPED if self.stamped else 0),
        )  # fmt: skip

    def columns(self) -> tuple[layout.Column, ...]:
        return ()

    def bounds(self) -> tuple[float, ...]:
        return ()

    def states(self) -> tuple[str, ...]:
        return ()

    def make_cell(self, owner: Any, series: Any) -> Any:
        """A cell of this field that has no memory yet."""
        raise NotImplementedError

    def rebind(self, cell: Any) -> None:
        """`cell`, which a forked child has of its parent, has got memory of the child's own."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


def only_adds(field: Field) -> None:
    if field.aggregate not in ("sum", "all"):
        raise DefinitionError(f"aggregate={field.aggregate!r} makes no sense of samples, which add up: use sum or all")


def no_arithmetic(field: Field) -> None:
    if field.aggregate not in ("last", "all"):
        raise DefinitionError(f"aggregate={field.aggregate!r} makes no sense of texts: use last or all")
