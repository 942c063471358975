"""A table that came as an Arrow stream, as a DataFrame. Everything in the stream is hostile."""

from __future__ import annotations

import struct
from typing import Any

from ..errors import ProtocolError

#: Cells that a table may have: some arrays of Arrow have a length and no bytes.
MAX_CELLS = 50_000_000
#: Cells' worth of memory that a list or a dict of Python takes.
OBJECT = 25
#: Bytes that its columns may have together: several may be views of the same ones.
MAX_BYTES = 64 << 20
#: Earlier ones unpickle what a stream's schema tells them to.
_SAFE_SINCE = 15

#: Places in the tables of Arrow's metadata: the header of a message; in it the compression of a batch of records, and
#: the batch in one of a dictionary.
_HEADER, _COMPRESSION, _BATCH = 2, 3, 1


def frame_of(stream: bytes) -> Any:
    """The table as a DataFrame; None if pandas, or a pyarrow that is safe with strange data, is not here.

    Raises `ProtocolError` if it is no table, too large a one, or of a kind whose size nothing bounds.
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
        _check_uncompressed(ipc, stream)
        with ipc.open_stream(stream) as reader:
            for column in reader.schema:
                _check_type(pyarrow.types, column.type)
            table = reader.read_all()
        if table.num_rows * max(table.num_columns, 1) > MAX_CELLS or table.nbytes > MAX_BYTES:
            raise ProtocolError(f"a table of {table.num_rows} x {table.num_columns}: more than is allowed")
        table.validate(full=True)
        if sum([_cells(pyarrow.types, chunk) for column in table.columns for chunk in column.chunks]) > MAX_CELLS:
            raise ProtocolError("a table whose values have more in them than is allowed")
        return table.to_pandas()
    except ProtocolError:
        raise
    except Exception as error:  # pandas evaluates what the stream says of its columns, and may fail in any way
        raise ProtocolError(f"a table that can't be read: {type(error).__name__}: {error}") from error


def _check_uncompressed(ipc: Any, stream: bytes) -> None:
    """A manhole compresses nothing; what is compressed would be unpacked before anything could be counted."""
    for message in ipc.MessageReader.open_stream(stream):
        if message.type not in ("record batch", "dictionary"):
            continue
        metadata = message.metadata.to_pybytes()
        batch = _field(metadata, _root(metadata), _HEADER)
        if message.type == "dictionary":
            batch = _field(metadata, batch, _BATCH)
        if _field(metadata, batch, _COMPRESSION):
            raise ProtocolError("a table that is compressed")


def _root(data: bytes) -> int:
    """Where the first table of a flatbuffer is."""
    return int(struct.unpack_from("<I", data)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Where the table is that a field of a table refers to; 0 if the field is not there."""
    if not table:
        return 0
    places = table - int(struct.unpack_from("<i", data, table)[0])
    at = 4 + 2 * number
    if at + 2 > struct.unpack_from("<H", data, places)[0]:
        return 0
    offset = int(struct.unpack_from("<H", data, places + at)[0])
    return table + offset + int(struct.unpack_from("<I", data, table + offset)[0]) if offset else 0


def _check_type(types: Any, kind: Any, inside: bool = False) -> None:
    """Only such types whose values each have bytes of their own in the stream, so that none is more than it brings."""
    if types.is_list(kind) or types.is_large_list(kind):
        _check_type(types, kind.value_type, True)
    elif types.is_struct(kind) and kind.num_fields:
        for number in range(kind.num_fields):
            _check_type(types, kind.field(number).type, True)
    elif types.is_dictionary(kind) and not inside:
        _check_type(types, kind.value_type, True)
    elif not (
        types.is_primitive(kind) or types.is_decimal(kind)
        or types.is_string(kind) or types.is_large_string(kind)
        or types.is_binary(kind) or types.is_large_binary(kind)
        or (types.is_fixed_size_binary(kind) and kind.byte_width)
        or (types.is_null(kind) and not inside)
    ):  # fmt: skip
        raise ProtocolError(f"a table with a column of {str(kind)[:100]}")


def _cells(types: Any, array: Any) -> int:
    """How many cells an array is, together with those in its values; each list and dict counts for `OBJECT` of them."""
    kind = array.type
    if types.is_list(kind) or types.is_large_list(kind):
        return len(array) * OBJECT + _cells(types, array.flatten())
    if types.is_struct(kind):
        return len(array) * OBJECT + sum([_cells(types, field) for field in array.flatten()])
    if types.is_dictionary(kind):
        return len(array) + _cells(types, array.dictionary)
    return len(array)
