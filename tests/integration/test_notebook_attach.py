"""A notebook on a real kernel, and cells of it that run in a live gevent server."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernels import LOAD, Kernel, notebook
from support import Program, need

#: A server with greenlets at work, and things to ask for. What it prints itself is none of the notebook's.
SERVER = """
from gevent import monkey; monkey.patch_all()
import base64, sys, threading
import gevent, gevent.queue
import mmdebug, mmdebug.manhole
mmdebug.install(service="shop")

class Page:
    def _repr_html_(self):
        return "<script>alert(1)</script><b>page</b>"

class Plot:
    def _repr_png_(self):
        return b"\\x89PNG\\r\\n\\x1a\\n and so on"

class Hub:
    held = True
    def block(self):
        while self.held:
            pass
    def free(self):
        self.held = False
        return "free"

def consume(queue):
    while True:
        queue.get()

def chatter():
    while True:
        print("of the application", file=sys.stderr)
        gevent.sleep(0.1)

queue, hub = gevent.queue.Queue(), Hub()
consumers = [gevent.spawn(consume, queue) for _ in range(3)]
gevent.spawn(chatter)
mmdebug.manhole.install(namespace={
    "orders": [1, 2, 3], "page": Page(), "plot": Plot(), "hub": hub, "lock": threading.Lock(), "queue": queue,
})
print("ready", flush=True)
gevent.sleep(1000)
"""


@pytest.fixture
def server(run: Callable[..., Program]) -> Program:
    need("notebooks", "gevent", "manhole")
    program = run(SERVER)
    assert program.line() == "ready"
    return program


def outputs(book: Any) -> list[list[Any]]:
    """The outputs of a notebook's cells; cells that are tagged so may fail."""
    import nbclient

    nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute()
    return [cell.outputs for cell in book.cells]


def printed(shown: list[Any], name: str = "stdout") -> str:
    return "".join([one.text for one in shown if one.output_type == "stream" and one.name == name])


def result(shown: list[Any]) -> dict[str, Any]:
    (found,) = [one.data for one in shown if one.output_type == "execute_result"]
    return dict(found)


def failing(book: Any, *cells: int) -> Any:
    for number in cells:
        book.cells[number].metadata["tags"] = ["raises-exception"]
    return book


def remote(code: str, options: str = "") -> str:
    return f"%%remote {options}\n{textwrap.dedent(code).strip()}"


def test_cells_of_a_notebook_run_in_a_live_server(jupyter: Path, server: Program) -> None:
    need("notebooks", "pandas", "pyarrow")
    cells = {
        "load": LOAD,
        "attach": f"%attach {server.pid}",
        "prints": remote("""
            import os, sys
            print("from there", os.getpid())
            print("\\x1b[2Jred", file=sys.stderr)
            total = sum(orders)
            total
        """),
        "names": remote("total + 1"),
        "table": remote("import pandas\npandas.DataFrame({'item': ['<script>', 'b'], 'sold': [3, 4]})"),
        "plot": remote("plot"),
        "page": remote("page"),
        "trusted": remote("page", "--trust"),
        "nothing": remote("x = 1"),
        "error": remote("def divide(by):\n    return 1 / by\ndivide(0)"),
        "pull": f"%pull orders total\n%pull 'pandas.DataFrame([[1, 2]])' --as frame\n{'orders + [total], frame.shape'}",
        "lock": "%pull orders lock",
        "stacks": "%stacks",
        "block": remote("import gevent\n_ = gevent.spawn(hub.block)"),
        "blocked": remote("hub.free()"),
        "native": remote("import threading\nthreading.current_thread().name", "--where native"),
        "detach": "%detach",
        "after": remote("1"),
    }
    names = list(cells)
    book = failing(notebook(*cells.values()), names.index("error"), names.index("lock"), names.index("after"))
    shown = dict(zip(names, outputs(book), strict=True))

    about = result(shown["attach"])
    assert str(server.pid) in about["text/html"] and "gevent" in about["text/html"]
    assert printed(shown["prints"]) == f"from there {server.pid}\n"
    assert printed(shown["prints"], "stderr") == "\\x1b[2Jred\n"
    assert result(shown["prints"]) == {"text/plain": "6"}
    assert result(shown["names"]) == {"text/plain": "7"}, "what a cell assigns is there in the next one"
    assert "text/html" in result(shown["table"]), shown["table"]
    table = result(shown["table"])["text/html"]
    assert "<table" in table and "&lt;script&gt;" in table and "<script>" not in table
    assert result(shown["plot"])["image/png"].startswith("iVBORw0KGgo")
    assert set(result(shown["page"])) == {"text/plain"}
    assert "<b>page</b>" in result(shown["trusted"])["text/html"]
    assert shown["nothing"] == []
    (error,) = shown["error"]
    assert (error.output_type, error.ename) == ("error", "RemoteFailure")
    assert error.evalue == "ZeroDivisionError: division by zero"
    trace = "\n".join(error.traceback)
    assert "in divide" in trace and "return 1 / by" in trace and "notebook" not in trace and f"{server.pid}" in trace
    assert result(shown["pull"])["text/plain"] == "([1, 2, 3, 6], (1, 2))"
    assert "lock is a" in printed(shown["lock"], "stderr") and "UsageError" in printed(shown["lock"], "stderr")
    stacks = result(shown["stacks"])
    assert "consume" in stacks["text/plain"] and "consume" in stacks["text/html"]
    first, *_ = shown["blocked"]
    assert first.output_type == "stream" and "hub" in first.text, "why it runs elsewhere is told first"
    (seen,) = [one.data for one in shown["blocked"] if one.output_type == "display_data"]
    running = seen["text/plain"].partition("thread MainThread")[2].partition("greenlet")[0]
    assert "block\n" in running and "block" in seen["text/html"]
    assert result(shown["blocked"])["text/plain"] == "'free'"
    assert "UsageError: no process is attached to" in printed(shown["after"], "stderr")
    assert "of the application" not in str(shown), "what the application prints is its own"


def test_run_all_stops_at_a_cell_that_failed_there(jupyter: Path, server: Program) -> None:
    import nbclient

    book = notebook(LOAD, f"%attach {server.pid}", remote("orders.append(4)\nnone"), remote("orders.append(5)"))
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="NameError"):
        outputs(book)
    after = outputs(notebook(LOAD, f"%stacks {server.pid}", f"%attach {server.pid}", "%pull orders\norders"))
    assert "consume" in result(after[1])["text/plain"], "stacks need no %attach"
    assert result(after[3])["text/plain"] == "[1, 2, 3, 4]"


def test_an_interruption_ends_the_code_there_and_a_death_is_told_with_its_post_mortem(
    kernel: Callable[[], Kernel], server: Program
) -> None:
    jupyter = kernel()
    jupyter.run(LOAD)
    # The kernel's whole group of processes is interrupted, and what carries the bytes is one of them.
    jupyter.run(f"%attach {server.pid} --via env --remote '{sys.executable} -m mmdebug'")
    jupyter.run(remote("kept = 42"))

    for endless in ("print('begun')\nwhile True: pass", "import gevent\nprint('begun')\ngevent.sleep(1000)"):
        jupyter.begin(remote(endless))
        jupyter.wait_for_output("begun")
        jupyter.manager.interrupt_kernel()
        wait_for_idle(jupyter)
        assert jupyter.run(remote("kept")) == [{"text/plain": "42"}], "the session stays"

    code = "%%remote\nhub.fr"
    matches = jupyter.client.complete(code, reply=True, timeout=30)["content"]
    assert [code[: matches["cursor_start"]] + one for one in matches["matches"]] == ["%%remote\nhub.free"]

    jupyter.run(f"%attach {server.pid}")
    jupyter.begin(remote("print('begun again')\nwhile True: pass"))
    jupyter.wait_for_output("begun again")
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    shown = wait_for_idle(jupyter)
    assert f"shop {server.pid} has died" in shown
    assert f"shop, pid {server.pid}: died" in shown
    assert any("%attach TARGET" in str(one) for one in jupyter.run(remote("kept")))


def wait_for_idle(kernel: Kernel) -> str:
    """Wait for the end of a cell that was begun; what it shows until then."""
    shown = []
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return "\n".join(shown)
        shown.append(str(message["content"]))
