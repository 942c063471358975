"""How the packages hang together: who imports whom, what is public, and that an import does nothing else."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mmstats

ROOT = Path(__file__).resolve().parents[2]

#: Each module of mmstats, and the modules of mmstats that it may import.
MAY_IMPORT = {
    # What needs nothing.
    "errors": "",
    "_nocython": "",
    "_words": "",
    "decorators": "",
    "frame": "",
    "process": "",
    "redact": "",
    # The format.
    "layout": "errors",
    "layout_v1": "errors",
    "directory": "errors",
    "life": "layout process",
    "retention": "directory errors layout life process",
    # What writes.
    "cells": "_nocython _words decorators errors",
    "segment": "cells errors layout process",
    "forks": "cells",
    "identity": "__init__ cells errors redact",
    "registry": "cells directory errors forks identity layout retention segment",
    "field": "errors layout",
    "attribute_fields": "cells errors field layout",
    "fields": "attribute_fields cells errors field layout",
    "model": "attribute_fields cells errors field layout registry",
    "instrument.__init__": "",
    "instrument.runtime": "fields model",
    "__init__": "attribute_fields errors field fields model",
    # What reads.
    "schema": "errors layout",
    "values": "layout",
    "reader": "directory errors frame layout layout_v1 life process schema values",
    "aggregate": "layout reader schema values",
    "fleet": "aggregate directory errors frame layout life reader",
    "targets": "errors fleet reader",
    "__main__": "commands",
}
WRITERS = {
    "cells", "segment", "forks", "identity", "registry", "field", "attribute_fields", "fields", "model",
    "instrument.runtime",
}  # fmt: skip
READERS = {"schema", "values", "reader", "aggregate", "fleet", "frame", "layout_v1", "life", "targets"}
#: Commands read. These two also say what a writer here would do.
COMMANDS_MAY_ALSO_IMPORT = {"commands.__init__": {"cells"}, "commands.doctor": {"cells", "registry"}}

OPTIONAL = {
    "IPython", "argcomplete", "gevent", "greenlet", "gunicorn", "manhole", "numpy", "opentelemetry", "pandas",
    "prometheus_client", "prompt_toolkit", "pyarrow", "rich", "uvloop",
}  # fmt: skip


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by their dotted names within it."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        relative = path.relative_to(ROOT / package)
        if "build" not in relative.parts:
            found[".".join(relative.with_suffix("").parts)] = path
    return found


def imports(package: str, name: str, path: Path) -> set[str]:
    """The dotted names that a module imports, wherever in it, as absolute ones."""
    here = [package, *name.split(".")[:-1]]
    found = set()
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # ``from package import module`` imports a module, ``from module import name`` the module before it.
            found |= {f"{origin}.{alias.name}" if _is_package(origin) else origin for alias in node.names}
    return found


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that are for a type checker only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed(node)


def _is_package(origin: str) -> bool:
    return (ROOT.joinpath(*origin.split(".")) / "__init__.py").exists()


def of_mmstats(found: set[str]) -> set[str]:
    """The modules of mmstats among dotted names; its own names count as ``__init__``."""
    known = modules("mmstats")
    result = set()
    for name in found:
        package, _, inside = name.partition(".")
        if package == "mmstats":
            while inside and inside not in known and f"{inside}.__init__" not in known:
                inside = inside.rpartition(".")[0]
            result.add(inside or "__init__")
    return result


@pytest.mark.parametrize("name", sorted(name for name in modules("mmstats") if not name.startswith("commands")))
def test_a_module_imports_what_the_table_lets_it(name: str) -> None:
    assert name in MAY_IMPORT, "a new module needs a place in the table"
    found = of_mmstats(imports("mmstats", name, modules("mmstats")[name]))
    assert found <= set(MAY_IMPORT[name].split())


def test_the_table_has_no_more_than_there_is() -> None:
    assert set(MAY_IMPORT) == {name for name in modules("mmstats") if not name.startswith("commands")}
    for name, allowed in MAY_IMPORT.items():
        assert set(allowed.split()) <= of_mmstats(imports("mmstats", name, modules("mmstats")[name])), name


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_reads_does_not_import_what_writes_by_any_way(name: str) -> None:
    reached, waiting = set(), {name}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= set(MAY_IMPORT[module].split()) - reached
    assert not reached & WRITERS


@pytest.mark.parametrize("name", sorted(name for name in modules("mmstats") if name.startswith("commands")))
def test_a_command_does_not_write(name: str) -> None:
    found = of_mmstats(imports("mmstats", name, modules("mmstats")[name]))
    assert found & WRITERS <= COMMANDS_MAY_ALSO_IMPORT.get(name, set())


@pytest.mark.parametrize("name", sorted(modules("mmstats")))
def test_mmstats_does_not_import_mmdebug_nor_any_other_package_at_its_head(name: str) -> None:
    path = modules("mmstats")[name]
    found = {imported.partition(".")[0] for imported in imports("mmstats", name, path)}
    assert "mmdebug" not in found
    assert found <= set(sys.stdlib_module_names) | {"mmstats", "cython"} | OPTIONAL
    head = {
        alias.name.partition(".")[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not head & OPTIONAL


# mmdebug: its modules in layers. A module imports from its own layer and from those before it.

LAYERS = {
    "data": "escape records native layout errors protocol endpoint ringevents",
    # Values, exceptions and stacks as data and texts; the rules of a diagnosis: pure.
    "pure": "capture.* diagnosis.* stacks.__init__ stacks.text stacks.walking stacks.greenlets stacks.tasks parked",
    # What goes on in a recorded process.
    "recording": "_packing rings box sanitize recorder logs hooks fault cgroup mainloop sampler installation"
    " stacks.take stacks.waits stacks.threads stacks.frames stacks.sockets",
    # What a process does that lets clients in.
    "listening": "manhole.*",
    # What its parent does.
    "parents": "exits children runner gunicorn _site.sitecustomize",
    # What is read after a death, and shown.
    "reading": "boxreader evidence postmortem processes ending compare manifest outfile bundle debugger pages report.*"
    " following client.* stacks.html stacks.pyspy",
    "front ends": "terminal.* notebook.* pytest_plugin.* commands.* __main__ __init__",
}
#: What of the layers of recording and of parents reading may use: these only read as well.
READ_TOO = {"fault", "cgroup", "exits"}
#: Of mmstats' writer these need more than a model: they write files of their own, or know its registries.
OF_THE_WRITER = {
    "_packing": {"_words"},
    "rings": {"cells", "_words", "_nocython", "decorators"},
    "box": {"segment", "registry", "identity", "fields"},
    "recorder": {"registry"},
    "installation": {"registry", "instrument.runtime"},
    "sampler": {"instrument.runtime"},
    "mainloop": {"instrument.runtime"},
    "children": {"registry", "identity"},
    "commands.run": {"identity"},
    "notebook.cells": {"instrument.runtime"},
    "pytest_plugin.__init__": {"fields"},
    "pytest_plugin.stats": {"registry"},
}
#: An object that shows itself asks for its report when it is to be shown, and not before.
WHEN_SHOWN = {
    ("postmortem", "report.text"), ("postmortem", "report.html"),
    ("stacks.__init__", "stacks.text"), ("stacks.__init__", "stacks.html"),
}  # fmt: skip


def layer_of(name: str) -> int:
    for number, several in enumerate(LAYERS.values()):
        for pattern in several.split():
            if name == pattern or (pattern.endswith(".*") and name.startswith(pattern[:-1])):
                return number
    raise AssertionError(f"{name} needs a place in the layers")


def of_mmdebug(name: str) -> set[str]:
    """The modules of mmdebug that one of them imports."""
    known = modules("mmdebug")
    result = set()
    for imported in imports("mmdebug", name, known[name]):
        package, _, inside = imported.partition(".")
        if package == "mmdebug":
            while inside and inside not in known and f"{inside}.__init__" not in known:
                inside = inside.rpartition(".")[0]
            inside = inside or "__init__"
            result.add(inside if inside in known else f"{inside}.__init__")
    return result - {name}


@pytest.mark.parametrize("name", sorted(modules("mmdebug")))
def test_a_module_of_mmdebug_imports_from_its_layer_and_those_before_it(name: str) -> None:
    # The package's own names are imported when they are first asked for; a verb of it is for everyone.
    own = layer_of(name)
    found = {other for other in of_mmdebug(name) if other != "__init__" and (name, other) not in WHEN_SHOWN}
    assert {other for other in found if layer_of(other) > own} == set()
    if (own >= layer_of("boxreader") and name in LAYERS["reading"].split()) or name.startswith("report."):
        writing = {other for other in found if layer_of("rings") <= layer_of(other) < layer_of("boxreader")}
        assert writing <= READ_TOO


@pytest.mark.parametrize("name", sorted(modules("mmdebug")))
def test_a_module_of_mmdebug_keeps_off_the_insides_of_the_writer(name: str) -> None:
    found = of_mmstats(imports("mmdebug", name, modules("mmdebug")[name]))
    assert found & (WRITERS | {"_words", "_nocython", "decorators"}) <= OF_THE_WRITER.get(name, set())


def test_the_modules_of_mmdebug_import_each_other_in_one_direction() -> None:
    arrows = {name: of_mmdebug(name) - {"__init__"} for name in modules("mmdebug") if name != "__init__"}
    for source, target in WHEN_SHOWN:
        arrows[source].discard(target)
    while arrows:
        leaves = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        assert leaves, f"these import each other in circles: {sorted(arrows)}"
        for name in leaves:
            del arrows[name]


# Imports.


def python(source: str, *arguments: str, **environ: str) -> Any:
    """What a fresh interpreter prints as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environ}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source), *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name",
    sorted(
        f"{package}.{name}".removesuffix(".__init__") for package in ("mmstats", "mmdebug") for name in modules(package)
    ),
)
def test_a_module_imports_alone_and_brings_no_optional_package(name: str) -> None:
    found = python(
        """
        import importlib, json, sys
        importlib.import_module(sys.argv[1])
        print(json.dumps(sorted(sys.modules)))
        """,
        name,
    )
    assert name in found
    assert not {module.partition(".")[0] for module in found} & OPTIONAL


def test_a_writer_does_not_load_the_reader_until_it_asks_for_it() -> None:
    before, after = python(
        """
        import sys
        import mmstats
        before = sorted(sys.modules)
        mmstats.read
        import json
        print(json.dumps([before, sorted(sys.modules)]))
        """
    )
    late = {f"mmstats.{name}" for name in ("reader", "values", "schema", "aggregate", "fleet", "frame", "layout_v1")}
    assert not late & set(before)
    assert "mmstats.reader" in after
    assert not {"typing_extensions", "asyncio", "json", "logging", "multiprocessing", "tempfile", "uuid"} & set(before)


def test_an_import_starts_nothing_opens_nothing_and_makes_nothing(tmp_path: Path) -> None:
    told = python(
        """
        import json, os, sys

        import re, struct, typing  # what the standard library does on import is not the question

        told = []
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        allowed = ("import", "compile", "exec", "marshal.", "os.listdir", "os.scandir", "object.", "sys._getframe")

        def hook(event, arguments):
            if event == "open":
                if arguments[2] & writing:
                    told.append([event, str(arguments[0])])
            elif not event.startswith(allowed):
                told.append([event, str(arguments)[:200]])

        class Environ(dict):
            def get(self, name, default=None):
                asked.append(name)
                return super().get(name, default)

            def __getitem__(self, name):
                asked.append(name)
                return super().__getitem__(name)

        asked = []
        descriptors = os.listdir("/proc/self/fd")
        os.environ = Environ(os.environ)
        sys.addaudithook(hook)
        import mmstats
        threads = len(os.listdir("/proc/self/task"))
        print(json.dumps({
            "told": told, "threads": threads, "asked": asked,
            "descriptors": len(os.listdir("/proc/self/fd")) - len(descriptors),
            "paths": sys.path,
        }))
        """,
        TMPDIR=str(tmp_path),
        HOME=str(tmp_path),
        MMSTATS_PATH=str(tmp_path / "not made"),
    )
    assert told["told"] == []
    assert (told["threads"], told["descriptors"]) == (1, 0)
    assert {name for name in told["asked"] if name.startswith("MMSTATS")} == {"MMSTATS_PURE_PYTHON"}
    assert [path.name for path in tmp_path.iterdir() if path.name != "stats"] == []


def test_the_uncompiled_cells_can_be_asked_for() -> None:
    source = "import json, mmstats; print(json.dumps([mmstats.cells.COMPILED, mmstats.cells.__file__[-3:]]))"
    assert python(source, MMSTATS_PURE_PYTHON="1") == [False, ".py"]


# What is public.

PUBLIC = [
    "DEFAULT_BUCKETS", "AverageField", "BaseMmStats", "BoolField", "ByteField", "ClosedError", "ConfigurationError",
    "CounterField", "DefinitionError", "DoubleField", "EnumField", "Field", "Fleet", "FloatField", "FormatError",
    "GaugeField", "HistogramField", "InfoField", "Int64Field", "IntField", "LabelError", "Merged", "MmStats",
    "MmStatsError", "MovingAverageField", "Process", "ReadError", "SegmentError", "ShortField", "Snapshot",
    "StaticDoubleField", "StaticFloatField", "StaticInt64Field", "StaticTextField", "StaticUInt64Field",
    "StaticUIntField", "StringField", "StructField", "TargetError", "TimerField", "UInt64Field", "UIntField",
    "UShortField", "__version__", "exponential_buckets", "linear_buckets", "read", "read_all",
]  # fmt: skip


def test_what_mmstats_exports_is_what_it_promises() -> None:
    assert mmstats.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_exported_name_exists_and_is_listed(name: str) -> None:
    assert getattr(mmstats, name) is not None
    assert name in dir(mmstats)


def test_a_name_that_is_not_exported_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mmstats.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_every_error_is_one_of_ours_and_says_what_it_is() -> None:
    from mmstats import errors

    own = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(own) >= 9
    for error in own:
        assert issubclass(error, mmstats.MmStatsError)
        assert error.__doc__
        assert getattr(mmstats, error.__name__) is error


def test_both_packages_ship_their_types() -> None:
    assert (ROOT / "mmstats" / "py.typed").exists()
    assert (ROOT / "mmdebug" / "py.typed").exists()
