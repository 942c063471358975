"""Rows as a pandas DataFrame. The only module that needs pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

COLUMNS = ("process", "service", "pid", "state", "name", "labels", "kind", "unit", "value", "count", "sum")


def frame_of(rows: Iterable[dict[str, Any]]) -> Any:
    """A DataFrame of `COLUMNS`, one row a series.

    Raises `ImportError` with what to install if pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame() needs pandas: pip install 'mmstats[frame]'") from error
    return pandas.DataFrame(list(rows), columns=list(COLUMNS))
