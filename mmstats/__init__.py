"""State of Python processes in memory-mapped files: one writer, many readers, alive or dead.

Writers subclass `MmStats`; readers call `read` and `read_all`. Importing this module loads only
what a writer needs; the reader comes with its first use.
"""

from __future__ import annotations

import os as _os
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

__version__ = "2.0.0.dev0"


def load_source(package: str, name: str) -> None:
    """Load a module from its source: the interpreter prefers a compiled one."""
    import importlib.util
    import sys

    full = f"{package}.{name}"
    home = _os.path.dirname(_os.path.abspath(sys.modules[package].__file__ or ""))
    spec = importlib.util.spec_from_file_location(full, _os.path.join(home, f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[full] = module = importlib.util.module_from_spec(spec)
    setattr(sys.modules[package], name, module)
    spec.loader.exec_module(module)


def load_either(package: str, name: str) -> None:
    """Load a module that may be compiled.

    From its source if `MMSTATS_PURE_PYTHON` asks for that, or where the compiled one can't be: in a
    sub-interpreter, such as mod_wsgi's.
    """
    from importlib import import_module

    if _os.environ.get("MMSTATS_PURE_PYTHON", "") in ("", "0"):
        try:
            import_module(f"{package}.{name}")
            return
        except ImportError:
            pass
    load_source(package, name)


load_either(__name__, "cells")

from .attribute_fields import (
    BoolField,
    ByteField,
    DoubleField,
    FloatField,
    Int64Field,
    IntField,
    ShortField,
    StaticDoubleField,
    StaticFloatField,
    StaticInt64Field,
    StaticTextField,
    StaticUInt64Field,
    StaticUIntField,
    StringField,
    UInt64Field,
    UIntField,
    UShortField,
)
from .errors import (
    ClosedError,
    ConfigurationError,
    DefinitionError,
    FormatError,
    LabelError,
    MmStatsError,
    ReadError,
    SegmentError,
    TargetError,
)
from .field import Field
from .fields import (
    DEFAULT_BUCKETS,
    AverageField,
    CounterField,
    EnumField,
    GaugeField,
    HistogramField,
    InfoField,
    MovingAverageField,
    StructField,
    TimerField,
    exponential_buckets,
    linear_buckets,
)
from .model import BaseMmStats, MmStats

if _TYPE_CHECKING:
    from .aggregate import Merged
    from .fleet import Fleet, read_all
    from .reader import Process, Snapshot, read

#: Names that are imported when they are first asked for, and the modules that they come from.
_LAZY = {
    "Fleet": "fleet",
    "Merged": "aggregate",
    "Process": "reader",
    "Snapshot": "reader",
    "read": "reader",
    "read_all": "fleet",
}

__all__ = [
    "DEFAULT_BUCKETS",
    "AverageField",
    "BaseMmStats",
    "BoolField",
    "ByteField",
    "ClosedError",
    "ConfigurationError",
    "CounterField",
    "DefinitionError",
    "DoubleField",
    "EnumField",
    "Field",
    "Fleet",
    "FloatField",
    "FormatError",
    "GaugeField",
    "HistogramField",
    "InfoField",
    "Int64Field",
    "IntField",
    "LabelError",
    "Merged",
    "MmStats",
    "MmStatsError",
    "MovingAverageField",
    "Process",
    "ReadError",
    "SegmentError",
    "ShortField",
    "Snapshot",
    "StaticDoubleField",
    "StaticFloatField",
    "StaticInt64Field",
    "StaticTextField",
    "StaticUInt64Field",
    "StaticUIntField",
    "StringField",
    "StructField",
    "TargetError",
    "TimerField",
    "UInt64Field",
    "UIntField",
    "UShortField",
    "__version__",
    "exponential_buckets",
    "linear_buckets",
    "read",
    "read_all",
]


def __getattr__(name: str) -> _Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
