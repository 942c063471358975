"""A table that came as an Arrow stream, as a DataFrame. Everything in the stream is hostile."""

from __future__ import annotations

from typing import Any

from ..errors import ProtocolError

#: Cells that a table may have: some arrays of Arrow have a length and no bytes.
MAX_CELLS = 50_000_000
#: Earlier ones unpickle what a stream's schema tells them to.
_SAFE_SINCE = 15


def frame_of(stream: bytes) -> Any:
    """The table as a DataFrame; None if pandas, or a pyarrow that is safe with strange data, is not here.

    Raises `ProtocolError` if it is no table, or too large a one.
    """
    try:
        import pandas  # noqa: F401  # pyarrow needs it for what follows
        import pyarrow
        from pyarrow import ipc
    except ImportError:
        return None
    if int(pyarrow.__version__.partition(".")[0]) < _SAFE_SINCE:
        return None
    try:
        with ipc.open_stream(stream) as reader:
            table = reader.read_all()
        if table.num_rows * max(table.num_columns, 1) > MAX_CELLS:
            raise ProtocolError(f"a table of {table.num_rows} x {table.num_columns}: more than is allowed")
        table.validate(full=True)
        return table.to_pandas()
    except ProtocolError:
        raise
    except (pyarrow.ArrowException, ValueError, TypeError, KeyError, OSError, MemoryError, AttributeError) as error:
        raise ProtocolError(f"a table that can't be read: {type(error).__name__}: {error}") from error
