"""Snapshots as a pandas DataFrame. The only module that needs pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import values
from .reader import Snapshot


def frame_of(snapshots: Iterable[Snapshot]) -> Any:
    """One row a series: who recorded it, its name and labels, its value, and count and sum of samples.

    Raises `ImportError` with what to install if pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame() needs pandas: pip install 'mmstats[frame]'") from error
    rows = []
    for snapshot in snapshots:
        who = snapshot.process
        for name, value in snapshot.items():
            series = value.items() if isinstance(value, values.LabelledValue) else [((), value)]
            for labels, single in series:
                rows.append(
                    {
                        "process": snapshot.label,
                        "service": who.service,
                        "pid": who.pid,
                        "state": who.state,
                        "name": name,
                        "labels": ",".join(f"{k}={v}" for k, v in zip(value.family.labelnames, labels, strict=False)),
                        "kind": value.kind,
                        "unit": value.unit,
                        "value": single.value,
                        "count": getattr(single, "count", None) if isinstance(single, values.SampleValue) else None,
                        "sum": getattr(single, "sum", None) if isinstance(single, values.SampleValue) else None,
                    }
                )
    columns = ["process", "service", "pid", "state", "name", "labels", "kind", "unit", "value", "count", "sum"]
    return pandas.DataFrame(rows, columns=columns)
