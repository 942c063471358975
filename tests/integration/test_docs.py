"""The documentation holds: its code runs, its commands run and print what it shows, and it builds.

A page's code blocks run in their order and share one namespace. A block whose first line is a
file's name, such as ``# shop.py``, is written to that file, which a console block then has to run.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, need, wait_for

import mmdebug.commands
import mmstats
import mmstats.commands

#: `test_format_example` tests the example of format.md, and byte by byte.
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "format.md")]
PARSERS = {"mmstats": mmstats.commands.parser, "mmdebug": mmdebug.commands.parser}


class Terminal:
    """Types the commands of console blocks, and compares what they print with what the page shows.

    It knows programs of the page, with ``&`` to put them into the background, ``kill``, and the
    project's own commands. All else, such as pip, is left to the reader.
    """

    def __init__(self) -> None:
        self.jobs: list[subprocess.Popen[str]] = []
        self.pids: dict[str, str] = {}
        self.programs: set[str] = set()
        self.ran: set[str] = set()

    def type(self, block: str) -> None:
        """Run each line that begins with a prompt; what follows it is what it shall print."""
        for typed, shown in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n?)*)", block, re.MULTILINE):
            command = typed.partition(" |")[0]
            background = command.endswith("&")
            settings, words = {}, shlex.split(command.rstrip("& "), comments=True)
            while words and (setting := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
                settings[setting[1]] = setting[2]
                del words[0]
            words = [self.pids.get(word, word) for word in words]
            expected = [line for line in shown.splitlines() if line.strip()]
            if words[:1] == ["python"] and words[1] in self.programs:
                self._python(words[1:], settings, background, expected)
            elif words[:1] == ["kill"]:
                self._kill(*words[1:])
            elif words and words[0] in PARSERS:
                self._command(words, settings, expected, piped="|" in typed)

    def _start(self, words: list[str], settings: dict[str, str]) -> subprocess.Popen[str]:
        environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONIOENCODING="utf-8", **settings)
        return subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def _python(self, words: list[str], settings: dict[str, str], background: bool, expected: list[str]) -> None:
        self.ran.add(words[0])
        program = self._start(words, settings)
        if not background:
            output, _ = program.communicate(timeout=60)
            assert program.returncode == 0, output
            compare(expected, output)
            return
        self.jobs.append(program)
        job = re.fullmatch(r"\[\d+\] (\d+)", expected[0])
        assert job is not None, f"{words}: show the pid as a shell does, [1] 4242"
        self.pids[job[1]] = str(program.pid)
        wait_for(lambda: program.poll() is not None or recorded(program.pid), f"{words} to record")
        assert program.poll() is None, program.communicate()[0]

    def _kill(self, how: str, pid: str) -> None:
        (program,) = [job for job in self.jobs if str(job.pid) == pid]
        program.send_signal({"-9": signal.SIGKILL, "-TERM": signal.SIGTERM}[how])
        program.wait(timeout=60)

    def _command(self, words: list[str], settings: dict[str, str], expected: list[str], piped: bool) -> None:
        try:
            PARSERS[words[0]]().parse_args(words[1:])
        except SystemExit as end:
            if end.code:  # --help and --version end so too
                raise AssertionError(f"{' '.join(words)} is no command: see what argparse says of it") from end
        if words[1:2] == ["watch"] and "-n" not in words:
            return  # it goes on for ever
        program = self._start(["-m", *words], settings)
        output, _ = program.communicate(timeout=60)
        refused = bool(expected) and expected[0].startswith(f"{words[0]}: ")
        assert program.returncode == (1 if refused else 0), output
        if not piped:
            compare(expected, output)

    def close(self) -> None:
        for job in self.jobs:
            job.kill()
            job.communicate()


def recorded(pid: int) -> bool:
    """Whether a process has counted something."""
    for snapshot in mmstats.read_all(pid=pid).values():
        for value in snapshot.values():
            of_labels = list(value.values()) if isinstance(value, mmstats.values.LabelledValue) else [value]
            if value.kind == "counter" and any(single.value for single in of_labels):
                return True
    return False


def compare(expected: list[str], output: str) -> None:
    """For each line that the page shows there is one in the output with all its words; numbers may differ."""
    lines = [set(words_of(line)) for line in output.splitlines()]
    for line in expected:
        words = set(words_of(line.partition("...")[0]))
        assert any(words <= line for line in lines), f"the page shows\n{line}\nbut this came:\n{output}"


def words_of(line: str) -> list[str]:
    return re.findall(r"(?<![\w/.-])[A-Za-z_]{3,}(?![\w/-]|\.\w)", line.replace("uncompiled", "compiled"))


def evaluate_python(example: Any) -> None:
    from sybil.evaluators.python import PythonEvaluator

    name = re.match(r"# (\w+\.py)\n", example.parsed)
    if name is None:
        PythonEvaluator()(example)
        return
    Path(name[1]).write_text(example.parsed, encoding="utf-8")
    example.namespace["terminal"].programs.add(name[1])


def evaluate_console(example: Any) -> None:
    example.namespace["terminal"].type(example.parsed)


@pytest.fixture
def terminal(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """In an empty directory, and with an empty one for stat files."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # A page that runs pytest would close the directory of this one's tests to other users, who are tested as well.
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(work))
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_code_and_the_commands_of_a_page_run(page: Path, terminal: Terminal) -> None:
    need("the docs", "sybil")
    from sybil import Sybil
    from sybil.parsers.myst import CodeBlockParser, SkipParser

    parsers = [
        CodeBlockParser("python", evaluator=evaluate_python),
        CodeBlockParser("console", evaluator=evaluate_console),
        SkipParser(),
    ]
    document = Sybil(parsers).parse(page)
    document.namespace["terminal"] = terminal
    for example in document.examples():
        example.evaluate()
    assert terminal.ran == terminal.programs, "a program that nobody runs is not tested"


def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    need("the docs", "sphinx", "myst_parser", "furo")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "doctrees"),
         str(ROOT / "docs"), str(tmp_path / "html")],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in (ROOT / "docs").glob("*.md"):
        assert (tmp_path / "html" / f"{page.stem}.html").exists(), f"{page.name} was not built"
