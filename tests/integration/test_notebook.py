"""In notebooks and at prompts: what a kernel did is known to the next one after it died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernels import LOAD, Kernel, execute, notebook
from support import Program, need, wait_for

import mmdebug
from mmdebug.notebook import cells, display, news, table
from mmdebug.records import Activity, Event, Sample

#: Prints a line, so that a test knows that it has got so far, and goes on for ever.
ENDLESS = "import time\nreport = bytearray(120_000_000)  # it takes memory\nprint('begun')\ntime.sleep(1000)"


def cell_events(found: Any) -> list[tuple[str, Any, Any]]:
    """The events of cells: start or end, the cell, and the source or the outcome."""
    return [
        (
            event.name.removeprefix("cell."),
            event.fields["cell"],
            event.fields.get("source", event.fields.get("outcome")),
        )
        for event in found.events
        if event.name.startswith("cell.")
    ]


# Kernels that die.


def test_after_a_kernel_was_killed_the_next_one_names_the_cell_and_tells_of_its_memory(
    kernel: Callable[[], Kernel],
) -> None:
    dead = kernel()
    assert dead.run(LOAD) == []
    dead.begin(ENDLESS)
    dead.wait_for_output("begun")
    process = mmdebug.process(dead.pid)
    wait_for(lambda: process.box and process.box.samples and process.box.samples[-1].values["rss"] > 120e6, "a sample")
    assert "lag" not in process.box.samples[-1].values, "a loop that stands still while a cell runs is not late"
    dead.kill()

    after = kernel()
    (told,) = after.run(LOAD)
    assert told.count("\n") == 1
    assert f"kernel {dead.pid} died" in told
    assert "while it ran In[2]" in told and "report = bytearray(120_000_000)" in told
    assert "MiB before the cell" in told and "MiB at the last sample" in told
    assert "It died without a trace" in told and "hung" not in told
    assert told.endswith("See %postmortem\n")
    (shown,) = after.run("%postmortem")
    assert f"kernel, pid {dead.pid}: died" in shown["text/plain"] and "In[2]" in shown["text/plain"]
    page = shown["text/html"]
    assert page.count("<svg") == 1 and "report = bytearray(120_000_000)" in page and "rss_mib=" in page
    (listed,) = after.run("%deaths")
    assert "<table>" in listed["text/html"] and "In[2]" in listed["text/html"]
    assert str(dead.pid) in listed["text/plain"]
    assert after.run("%reload_ext mmdebug") == [], "nobody is told of a death twice"


def test_a_kernel_that_kills_itself_and_one_that_crashes_are_both_known(kernel: Callable[[], Kernel]) -> None:
    killed, crashed = kernel(), kernel()
    assert killed.run(LOAD) == crashed.run(LOAD) == []
    killed.begin("import os\nos.kill(os.getpid(), 9)  # by its own hand")
    killed.wait_for_death()
    crashed.run("import ctypes")
    crashed.begin("ctypes.string_at(0)  # into the void")
    crashed.wait_for_death()

    after = kernel()
    (told,) = after.run(LOAD)
    assert f"kernel {crashed.pid} died" in told and "while it ran In[3]" in told and "into the void" in told
    assert "segmentation fault" in told
    assert told.endswith("See %postmortem; of 1 more: %deaths\n")
    (shown,) = after.run(
        "found = %deaths kernel\nfor death in found: print(death.process.pid, death.activities[0].name)"
    )
    assert shown == f"{crashed.pid} In[3]\n{killed.pid} In[2]\n"
    (shown,) = after.run(f"%postmortem {killed.pid}")
    assert "by its own hand" in shown["text/html"]
    (shown,) = after.run("%postmortem")
    assert "Segmentation fault" in shown["text/plain"] and "into the void" in shown["text/plain"]


def test_a_notebook_leaves_what_its_cells_did_and_no_death(jupyter: Path) -> None:
    execute(
        notebook(
            LOAD,
            "numbers = [1, 2]\n\nsum(numbers)",
            "wanted = 'page 7'\nnumbers[5]",
            "def broken(:",
            "import asyncio\nawait asyncio.sleep(0)",
            "raise KeyboardInterrupt",
            "   ",
            "get_ipython().run_cell('inner = 1', store_history=False)",
        ),
        allow_errors=True,
    )
    found = mmdebug.process("kernel").postmortem()
    assert found.verdict.state == "closed" and mmdebug.deaths() == []
    assert cell_events(found) == [
        ("start", "In[2]", "numbers = [1, 2]\n\nsum(numbers)"),
        ("end", "In[2]", "ok"),
        ("start", "In[3]", "wanted = 'page 7'\nnumbers[5]"),
        ("end", "In[3]", "error"),
        ("start", "In[4]", "def broken(:"),
        ("end", "In[4]", "not run"),
        ("start", "In[5]", "import asyncio\nawait asyncio.sleep(0)"),
        ("end", "In[5]", "ok"),
        ("start", "In[6]", "raise KeyboardInterrupt"),
        ("end", "In[6]", "interrupted"),
        ("start", "In[7]", "get_ipython().run_cell('inner = 1', store_history=False)"),
        ("start", "In[-]", "inner = 1"),
        ("end", "In[-]", "ok"),
        ("end", "In[7]", "ok"),
    ]
    ended = [event.fields for event in found.events if event.name == "cell.end"]
    assert all([0 <= fields["seconds"] < 60 for fields in ended])
    assert all([1 < fields["rss_before_mib"] < 10000 and 1 < fields["rss_after_mib"] < 10000 for fields in ended])
    (error,) = found.exceptions
    assert (error.type, error.how, error.fatal) == ("IndexError", "cell", False)
    assert error.error is not None
    (frame,) = error.error.frames
    assert (frame.line, frame.locals["wanted"]) == (2, "'page 7'"), "IPython's own frames are left out"
    assert not [event for event in found.events if event.kind == "log"], "the kernel logs every message that it gets"


def test_a_notebook_whose_kernel_dies_is_told_of_in_the_next_one(jupyter: Path) -> None:
    import nbclient

    with pytest.raises(nbclient.exceptions.DeadKernelError):
        execute(notebook(LOAD, "import os", "os._exit(3)  # gone"))
    outputs = execute(notebook(LOAD, "%postmortem"))
    assert "while it ran In[3]" in outputs[0][0].text and "gone" in outputs[0][0].text
    assert "In[3]" in outputs[1][0].data["text/html"]


def test_a_kernel_that_loads_it_by_its_configuration_tells_in_its_first_cell(
    kernel: Callable[[], Kernel], jupyter: Path
) -> None:
    profile = jupyter / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("c = get_config()\nc.InteractiveShellApp.extensions = ['mmdebug']\n")
    dead = kernel()
    dead.begin(ENDLESS)
    dead.wait_for_output("begun")
    dead.kill()
    after = kernel()
    told, printed = after.run("print('hello')")[0].splitlines()
    assert f"kernel {dead.pid} died" in told and "In[1]" in told
    assert printed == "hello"
    assert after.run("1") == [{"text/plain": "1"}]


# At a prompt, and in a shell of a program's own.


def test_ipython_at_a_terminal_tells_and_shows_the_same_as_text(jupyter: Path, home: Path) -> None:
    def prompt(*lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"],
            input="\n".join([*lines, ""]), capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    dead = prompt(LOAD, "1 / 0", "import os, signal", "os.kill(os.getpid(), signal.SIGKILL)")
    assert dead.returncode == -9, dead.stderr
    after = prompt(LOAD, "%deaths", "%postmortem", "%postmortem nobody", "%deaths --wrong")
    assert after.returncode == 0, after.stderr
    assert "ipython" in after.stdout and "while it ran In[4] for at least" in after.stdout
    assert "IN THE MIDDLE OF" in after.stdout
    assert "ZeroDivisionError: division by zero" in after.stdout and ", cell, MainThread" in after.stdout
    assert "In flight at the end: 1" in after.stdout
    assert "UsageError: nothing is known of 'nobody'" in after.stderr + after.stdout
    assert "UsageError: unrecognized arguments: --wrong" in after.stderr + after.stdout
    assert "Traceback" not in after.stderr
    names = [name for _, name, _ in cell_events(mmdebug.deaths()[0])]
    assert names == ["In[2]", "In[2]", "In[3]", "In[3]", "In[4]"]


SHELL = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
def show(code):
    return shell.display_formatter.format(shell.run_cell(code).result)[0]
"""


@pytest.fixture
def death(home: Path, run: Callable[..., Program]) -> int:
    """The pid of a process of the service "worker" that died."""
    program = run("""
        import mmdebug
        mmdebug.install(service="worker")
        mmdebug.event("page.<b>", text="\\x1b[2J")
        with mmdebug.activity("GET /<i>"):
            print(flush=True)
            input()
    """)
    program.line()
    program.kill()
    return program.pid


def shell(jupyter: Path, run: Callable[..., Program], code: str, **env: str) -> str:
    """What a program with an IPython shell prints."""
    return run(SHELL + textwrap.dedent(code), env=env).finish()[0]


def test_without_jinja2_there_is_the_text(jupyter: Path, run: Callable[..., Program], death: int) -> None:
    out = shell(
        jupyter, run, """
        import sys
        sys.modules["jinja2"] = None
        shell.run_line_magic("load_ext", "mmdebug")
        for code in ("%postmortem", "import mmdebug; mmdebug.process('worker')"):
            shown = show(code)
            print(sorted(shown), shown["text/plain"])
        """,
    )  # fmt: skip
    assert out.count("['text/plain']") == 2
    assert f"worker, pid {death}: died" in out and f"<Process worker {death}, died>" in out


def test_post_mortems_processes_and_records_render(jupyter: Path, run: Callable[..., Program], death: int) -> None:
    need("notebooks", "jinja2")
    out = shell(
        jupyter, run, """
        shell.run_line_magic("load_ext", "mmdebug")
        for code in (
            "import mmdebug; found = mmdebug.deaths()[0]; found",
            "mmdebug.process('worker')",
            "from mmdebug.notebook import table; table(found.events)",
            "table(found.activities)",
            "table(())",
        ):
            shown = show(code)
            assert sorted(shown) == ["text/html", "text/plain"], shown
            assert "<b>" not in shown["text/html"].replace("<b>possible", "") and "<i>" not in shown["text/html"]
            assert "\\x1b" not in shown["text/html"] + shown["text/plain"]
            print(shown["text/plain"])
        print(shell.run_cell("found = %postmortem worker").success, shell.user_ns["found"].process.pid)
        shell.run_cell("%postmortem --all")
        """,
    )  # fmt: skip
    assert "page.<b> text=" in out and "GET /<i>" in out and "faulthandler" in out
    assert f"True {death}" in out


def test_a_saved_tar_is_a_target_too(jupyter: Path, run: Callable[..., Program], death: int, tmp_path: Path) -> None:
    saved = tmp_path / "out.tar"
    subprocess.run([sys.executable, "-m", "mmdebug", "save", str(death), str(saved)], check=True, capture_output=True)
    out = shell(
        jupyter, run, """
        import sys
        shell.run_line_magic("load_ext", "mmdebug")
        print(show("%postmortem " + sys.stdin.readline())["text/plain"])
        """.replace("sys.stdin.readline()", repr(str(saved))),
    )  # fmt: skip
    assert "as it was judged when it was saved" in out
    assert f"worker, pid {death}: died" in out


def test_unloaded_it_records_no_more_cells_and_its_magics_are_gone(jupyter: Path, run: Callable[..., Program]) -> None:
    shell(
        jupyter, run, """
        import mmdebug.notebook
        mmdebug.load_ipython_extension(shell)
        mmdebug.load_ipython_extension(shell)
        shell.run_cell("before = 1")
        mmdebug.notebook.unload(shell)
        mmdebug.notebook.unload(shell)
        shell.run_cell("after = 1")
        assert shell.find_line_magic("deaths") is None and shell.find_line_magic("postmortem") is None
        """,
    )  # fmt: skip
    found = mmdebug.process("ipython").postmortem()
    assert [what for _, _, what in cell_events(found)] == ["before = 1", "ok"]
    assert found.activities == ()


def test_disabled_it_records_nothing_and_still_shows(jupyter: Path, run: Callable[..., Program], death: int) -> None:
    out = shell(
        jupyter, run, """
        shell.run_line_magic("load_ext", "mmdebug")
        print(show("%deaths")["text/plain"])
        """, MMDEBUG_DISABLE="1",
    )  # fmt: skip
    assert str(death) in out
    assert [found.process.service for found in mmdebug.deaths()] == ["worker"]
    assert not list(Path(os.environ["MMSTATS_PATH"]).glob("ipython*"))


SECRETS = (
    "password = 'hunter2-a'",
    "%env API_KEY hunter2-b",
    "%env API_KEY=hunter2-c",
    "!true --token hunter2-d",
    "import os; os.environ['DB_PASSWORD'] = 'hunter2-e'",
    "x = dict(token='''\nhunter2-f\n''')",
    "url = 'https://me:hunter2-g@example.org/'",
)


def test_secrets_in_cells_are_nowhere_on_disk(jupyter: Path, home: Path, run: Callable[..., Program]) -> None:
    program = run(
        SHELL
        + textwrap.dedent("""
        import json, sys
        shell.run_line_magic("load_ext", "mmdebug")
        for line in sys.stdin:
            shell.run_cell(json.loads(line), store_history=True)
        """)
    )
    for code in SECRETS:
        program.say(json.dumps(code))
    program.finish()
    files = [path.read_bytes() for path in home.iterdir()]
    assert sum([data.count(b"cell.end") for data in files]) == len(SECRETS)
    assert not [data for data in files if b"hunter2" in data]


def test_what_fails_in_the_recording_of_a_cell_does_not_show(jupyter: Path, run: Callable[..., Program]) -> None:
    out = shell(
        jupyter, run, """
        shell.run_line_magic("load_ext", "mmdebug")
        from mmdebug.notebook import cells
        def broken(*_): raise RuntimeError("broken")
        cells.first_lines = cells.outcome_of = broken
        print(shell.run_cell("1 + 1").result)
        """,
    )  # fmt: skip
    assert out.splitlines()[-1] == "2" and "broken" not in out


# What is said, without a shell.


def test_a_cell_is_cut_to_its_first_lines() -> None:
    assert cells.first_lines("\n\n  x = 1\n\ty = 2\n") == "  x = 1\n    y = 2"
    assert cells.first_lines("".join([f"line_{i}\n" for i in range(100)])).count("\n") == cells.LINES - 1
    assert len(cells.first_lines("é" * 1_000_000)) < 1000
    assert cells.first_lines("") == ""


def test_a_line_of_news_can_not_move_the_cursor(home: Path, death: int) -> None:
    found = mmdebug.load(mmdebug.process(death).path)
    line = news.told(found, 0, time.time_ns())
    assert line.isprintable() and "worker" in line and "while it ran no cell" in line


def test_the_memory_of_a_cell_is_told_from_its_start_on() -> None:
    cell = Activity("In[3]", started=10, fields={"rss_mib": 50.0})

    class Found:
        samples = tuple([Sample(at, {"rss": size * 1048576.0}) for at, size in ((5, 9000), (11, 700), (12, 100))])

    told = news.memory(Found(), cell)  # type: ignore[arg-type]
    assert told == "memory: 50 MiB before the cell, 100 MiB at the last sample, 700 MiB at most"
    assert news.memory(Found(), None).startswith("memory: 100 MiB at the last sample, 8.8 GiB at most")


def test_a_table_is_of_one_kind_of_records_and_escapes_them() -> None:
    event = Event(1_700_000_000_123_000_000, "info", "event", "<script>\x1b[2J", {"a": 1})
    shown = table([event])
    assert list(shown) == [event] and shown[0] is event and len(shown) == 1
    assert "&lt;script&gt;\\x1b[2J a=1" in shown._repr_html_()
    assert "<script>\\x1b[2J a=1" in repr(shown)
    with pytest.raises(TypeError, match="one kind"):
        table([event, Activity("x", 1)])
    with pytest.raises(TypeError, match="events, activities"):
        table([1])
    assert repr(table([])) == "nothing"


def test_a_long_table_shows_its_end_and_counts_the_rest() -> None:
    shown = table([Event(i, "info", "event", f"event.{i}") for i in range(display.MOST_ROWS + 5)])
    assert "event.4 " not in repr(shown).replace("\n", " ") and f"event.{display.MOST_ROWS + 4}" in repr(shown)
    assert "(5 more before these)" in repr(shown) and "(5 more before these)" in shown._repr_html_()
