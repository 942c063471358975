"""`MmStats`: a class whose attributes are fields, and whose instances record."""

from __future__ import annotations

import os
import sys
import time
from _thread import get_native_id
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

from . import attribute_fields, cells, layout, registry
from .errors import ClosedError, DefinitionError
from .field import Field


class BaseMmStats(cells.Model):
    """A model without the default fields of `MmStats`.

    path: the directory of the file; by default as documented in `mmstats.directory`
    filename: a file of this model's own; ``{CMD}``, ``{PID}`` and ``{TID}`` are filled in. Models
        without one share their process' one file
    label_prefix: put before the name of each field
    service: the name under which the process is found; by default `MMSTATS_SERVICE`, or the command
    strict: raise `SegmentError` where there can be no file, instead of recording in private memory

    A model made twice with the same names and definitions gets the same cells.
    """

    _fields: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        found: dict[str, Field] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                field = value.field if isinstance(value, cells.Slot) else value
                if isinstance(field, Field):
                    found[name] = field
                else:
                    found.pop(name, None)  # a subclass may replace a field by something else
        cls._fields = found
        for index, (name, field) in enumerate(found.items()):
            if _is_object(field):
                if name not in vars(cls) or isinstance(vars(cls)[name], cells.Slot):
                    setattr(cls, name, field)
            else:
                setattr(cls, name, cells.Slot(index, field, field.access))

    def __init__(
        self,
        path: str | None = None,
        filename: str | None = None,
        label_prefix: str | None = None,
        *,
        service: str | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self._label_prefix = label_prefix or ""
        self._removed = False
        self._registry = registry.registry_for(path, filename, service, strict)
        targets, objects = [], []
        for name, field in self._fields.items():
            target = self._declare(field.name or name, field)
            targets.append(target)
            if _is_object(field):
                setattr(self, name, target)
                objects.append(name)
        self._install(targets, objects)
        self._registry.attach(self)
        self._registry.open()
        self._filename = self._registry.filename or ""

    def _declare(self, name: str, field: Field) -> Any:
        name = self._label_prefix + name
        if not name or not name.isprintable():
            raise DefinitionError(f"{name!r} is no name for a field: give it some characters, all of them printable")
        return self._registry.declare(field.family(name), field)

    def add_field(self, name: str, field: Field) -> Any:
        """Add a field that is known only at run time, and return what records it.

        The same name and definition return the same cell again. What a model reads and sets as an
        attribute is here an object with ``value`` and ``set()``.
        """
        if self._removed:
            raise ClosedError("this model was removed: make a new one to go on recording")
        target = self._declare(field.name or name, field)
        return target if field.labelnames else target.read()

    @property
    def filename(self) -> str:
        """The full path of the file; empty where stats stay in private memory."""
        if self._removed:
            return self._filename
        return self._registry.filename or ""

    @property
    def label_prefix(self) -> str:
        return self._label_prefix

    @property
    def size(self) -> int:
        """Bytes of disk or memory that the file takes."""
        return self._registry.size

    def flush(self, asynchronous: bool = False) -> None:
        """Have the kernel write the file to its disk. Readers don't need it; a power cut might."""
        del asynchronous  # mmstats 0.x had it; the kernel decides
        if self._removed:
            raise ClosedError("this model was removed: there is nothing left to flush")
        self._registry.flush()

    def remove(self) -> None:
        """End this model: its fields raise `ClosedError` from now on. A second call does nothing.

        The file goes with the last model that uses it.
        """
        if self._removed:
            return
        self._removed = True
        targets, objects = [], []
        self._install([], ())
        for name, field in self._fields.items():
            target = cells.Labelled(field.labelnames, _refuse) if field.labelnames else field.make_cell(None, None)
            targets.append(target)
            if _is_object(field):
                setattr(self, name, target)
                objects.append(name)
        self._install(targets, objects)
        self._registry.detach(self)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __repr__(self) -> str:
        state = "removed" if self._removed else self.filename or "in private memory"
        return f"<{type(self).__name__} of {len(self._fields)} fields, {state}>"


_F = TypeVar("_F", bound=Field)


def _is_object(field: Field) -> bool:
    return bool(field.labelnames) or field.access == "object"


def _refuse(labels: tuple[str, ...]) -> Any:
    raise ClosedError("this field's model was removed: make a new one to go on recording")


def _describing(field: _F) -> _F:
    field.flags |= layout.DESCRIPTIVE
    return field


class MmStats(BaseMmStats):
    """Subclass it, give it fields, make one instance, and record.

    >>> class WebStats(MmStats):
    ...     requests = CounterField(help="Requests served")
    >>> stats = WebStats(service="web")
    >>> stats.requests.inc()
    """

    pid = _describing(attribute_fields.StaticUIntField(label="sys.pid", value=os.getpid))
    tid = _describing(attribute_fields.StaticInt64Field(label="sys.tid", value=get_native_id))
    uid = _describing(attribute_fields.StaticUInt64Field(label="sys.uid", value=getattr(os, "getuid", lambda: 0)))
    gid = _describing(attribute_fields.StaticUInt64Field(label="sys.gid", value=getattr(os, "getgid", lambda: 0)))
    python_version = _describing(
        attribute_fields.StaticTextField(label="org.python.version", value=lambda: sys.version.replace("\n", ""))
    )
    created = _describing(attribute_fields.StaticDoubleField(label="sys.created", value=time.time))
