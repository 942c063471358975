"""Tables as Arrow's stream format, and when a value is not what would come out on the other side."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

from ..protocol import MAX_VALUE

#: Bytes of a table of pandas that are turned into one of Arrow's, to see how large that is.
MAX_TABLE = 64 << 20


class Inexact(ValueError):
    """A value can't cross as it is: says why."""


def _types(module: str, *names: str) -> tuple[type, ...]:
    found = sys.modules.get(module)
    return tuple([kind for name in names if isinstance(kind := getattr(found, name, None), type)])


def is_table(value: object) -> bool:
    """Whether this is a table of pandas or of Arrow. Imports nothing: what is not loaded has made no tables."""
    return issubclass(
        type(value), (*_types("pandas", "DataFrame", "Series"), *_types("pyarrow", "Table", "RecordBatch"))
    )


def stream_of(value: Any, may_import: bool) -> bytes:
    """A table as a stream. Raises `Inexact`.

    may_import: whether pyarrow may be imported for it
    """
    if "pyarrow" not in sys.modules and not may_import:
        raise Inexact("a table crosses as Arrow, and pyarrow is not loaded; in a native thread it is not imported")
    try:
        pyarrow: Any = import_module("pyarrow")
    except ImportError as error:
        raise Inexact("a table crosses as Arrow, and pyarrow is not installed there") from error
    try:
        return _stream(pyarrow, value)
    except Inexact:
        raise
    except Exception as error:  # a column of objects of many kinds, say
        raise Inexact(f"Arrow can't hold it: {type(error).__name__}: {str(error)[:500]}") from error


def _stream(pyarrow: Any, value: Any) -> bytes:
    if issubclass(type(value), _types("pandas", "Series")):
        value = value.to_frame()
    if issubclass(type(value), _types("pandas", "DataFrame")):
        size = int(value.memory_usage(deep=False).sum())
        if size > MAX_TABLE:
            raise Inexact(f"it has {size >> 20} MiB, and {MAX_VALUE >> 20} may cross: send a part of it")
        value = pyarrow.Table.from_pandas(value)
    elif issubclass(type(value), pyarrow.RecordBatch):
        value = pyarrow.Table.from_batches([value])
    size = int(value.nbytes)
    if size <= MAX_VALUE:
        file = io.BytesIO()
        with pyarrow.ipc.new_stream(file, value.schema) as writer:
            writer.write_table(value)
        data = file.getvalue()
        size = len(data)
        if size <= MAX_VALUE:
            return data
    raise Inexact(f"it has {size >> 20} MiB as Arrow, and {MAX_VALUE >> 20} may cross: send a part of it")
