"""The pytest plugin: which test a process was in when it died, and what killed it.

Inert until ``--mmdebug`` asks for it: then each test process, pytest-xdist's workers among them, records
itself into a directory of the run, and what is left of those that died is shown. The environment is not
touched, so programs that tests start are not recorded, and those that record themselves go on as they
do. What is read and shown is in `pytest_deaths`; the fixture `stats_directory` is there in any case.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from ..children import Ledger
    from .deaths import Death
    from .stats import StatsDirectory

#: Where a controller tells its workers where to record, and as which run.
_INPUT = "mmdebug"
#: A node's id of more characters is cut in its middle: an activity has room for 200 bytes.
_MOST_NODEID = 140


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mmdebug", "mmdebug: what killed a test process")
    group.addoption("--mmdebug", action="store_true", help="record test processes, and tell which test killed one")
    group.addoption(
        "--mmdebug-path", metavar="DIR", help="record into DIR and keep what is recorded; implies --mmdebug"
    )
    parser.addini("mmdebug", "record test processes, as --mmdebug does", type="bool", default=False)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """After pytest's own plugins, such as that for faulthandler."""
    given = getattr(config, "workerinput", None)
    if given is not None:
        place = given.get(_INPUT)
        if place is not None and _install(place["path"], faults=True):
            _register(config, place["run"], str(given.get("workerid", "")))
        return
    asked = config.getoption("--mmdebug-path")
    if not (asked or config.getoption("--mmdebug") or config.getini("mmdebug")):
        return
    from ..children import disabled

    if not disabled():
        _Controller(config, asked).start()


def _register(config: pytest.Config, run: str, worker: str = "") -> None:
    config.pluginmanager.register(_Recording(run, worker), "mmdebug-recording")


def _install(path: str, *, faults: bool) -> bool:
    """Record this process into `path`, unless it is recorded already, as under ``mmdebug run``; whether it is."""
    from mmdebug import installation

    if installation.installation() is not None:
        from .. import fault

        fault.check()  # pytest's plugin has just pointed faulthandler to stderr
        return True
    # Files of its own: the process' common ones stay what they are to the tests and what they test.
    # Tests check hooks and root handlers: no thread may change these at a moment of its own choice.
    return installation.install(path=path, service="pytest", log_level=None, faults=faults)


class _Recording:
    """In each test process: what it is doing, as activities and events."""

    def __init__(self, run: str, worker: str) -> None:
        import logging

        from mmstats import fields

        from .. import activity, event, installation, logs, recorder

        self._activity = activity
        self._event = event
        self._worker = {"worker": worker} if worker else {}
        self._root = logging.getLogger()
        self._handler: logging.Handler | None = None
        installed = installation.installation()
        if installed is not None and installed.handler is None:
            logs.configure()
            self._handler = logs.Handler()
        # Forked children inherit it, so it says whose it is.
        self._marks = {"run": run, "worker": worker, "pid": str(os.getpid())}
        from .deaths import MARK

        field = fields.InfoField(size=256)
        self._mark = recorder.box().stats.declare(field.family(MARK), field)
        self._mark.info({**self._marks, "session": "on"})

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        self._mark.info({**self._marks, "session": "over"})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        with self._activity("collect", nodeid=_shortened(collector.nodeid), **self._worker):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with self._activity("test", nodeid=_shortened(item.nodeid), **self._worker):
            self._event("test", nodeid=item.nodeid)
            if self._handler is None:
                return (yield)
            self._root.addHandler(self._handler)
            try:
                return (yield)
            finally:
                self._root.removeHandler(self._handler)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        with self._activity("setup"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        with self._activity("call"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        with self._activity("teardown"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        report = yield
        if report.failed:
            error = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
            self._event("test.failed", severity="error", nodeid=item.nodeid, phase=report.when, error=error[:500])
        return report


class _Controller:
    """In the process that the user started: the run's directory, its workers' ends, and what is told."""

    def __init__(self, config: pytest.Config, asked: str | None) -> None:
        from . import deaths

        self._deaths = deaths
        self._config = config
        self._asked = os.path.abspath(asked) if asked else None
        self._run = os.urandom(6).hex()
        self._path = ""
        self._private = False
        self._earlier: list[Death] = []
        self._ledger: Ledger | None = None
        self._told: list[Death] = []
        self._interrupted = False

    def start(self) -> None:
        import faulthandler

        from .. import installation, recorder

        path = self._asked or ""
        try:
            if installation.installation() is None:
                path = path or self._deaths.new_directory(self._config.rootpath)
            self._earlier = self._deaths.unseen(self._asked, self._config.rootpath)
            # Without workers nobody lives to show a fault: what pytest itself has on stderr at once is worth more.
            if not _install(path, faults=not faulthandler.is_enabled()):
                return
        except Exception as error:  # whatever it is: the tests shall run
            print(f"mmdebug: test processes are not recorded: {error}", file=sys.stderr)
            return
        # Not `path` if it is recorded already.
        used = recorder.box().filename
        self._path = os.path.dirname(used) if used else path
        self._private = not self._asked and self._path == path
        _register(self._config, self._run)
        self._config.pluginmanager.register(self, "mmdebug-controller")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if self._earlier and reporter is not None:
            self._tell(reporter, "mmdebug: died in an earlier run", self._earlier)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if not node.gateway.spec.popen:
            return  # on another machine, perhaps: what it left could not be read here
        if self._ledger is None:
            from ..children import Ledger

            self._ledger = Ledger()
        node.workerinput[_INPUT] = {"path": self._path, "run": self._run}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker is gone; `error` is None if it left in good order."""
        if error is None:
            return
        program = getattr(getattr(node.gateway, "_io", None), "popen", None)
        if program is not None and self._ledger is not None:
            self._deaths.note_end(self._ledger, program)
        # Now, since each new process of a service prunes what older ones left.
        self._look()

    def pytest_keyboard_interrupt(self) -> None:
        self._interrupted = True

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._interrupted:  # by which workers end, too
            self._look()
        if self._told:
            self._tell(terminalreporter, "mmdebug: processes that died", self._told)

    def pytest_unconfigure(self) -> None:
        if self._private and not self._told:
            self._deaths.remove_at_exit(self._path)

    def _look(self) -> None:
        seen = {death.found.path for death in self._told}
        try:
            self._told += [death for death in self._deaths.find(self._path, self._run) if death.found.path not in seen]
        except Exception as error:  # whatever it is: the tests' outcome is worth more
            print(f"mmdebug: deaths can't be told of: {type(error).__name__}: {error}", file=sys.stderr)

    def _tell(self, reporter: Any, title: str, deaths: list[Death]) -> None:
        reporter.section(title, sep="=", red=True)
        for death in deaths[: self._deaths.MOST]:
            reporter.line(self._deaths.title(death), red=True)
            try:
                lines = list(self._deaths.lines(death))
            except Exception as error:  # such as for a damaged file: the rest of the summary is worth more
                lines = [f"  its post-mortem can't be shown: {type(error).__name__}"]
            for line in lines:
                reporter.line(line)
        if len(deaths) > self._deaths.MOST:
            reporter.line(f"and {len(deaths) - self._deaths.MOST} more")
        for death in deaths:
            self._deaths.mark_told(death)


def _shortened(nodeid: str) -> str:
    """A node's id, without its middle if it is long: file and parameters tell most."""
    if len(nodeid) <= _MOST_NODEID:
        return nodeid
    half = _MOST_NODEID // 2
    return f"{nodeid[: half - 1]}...{nodeid[-half + 2 :]}"


@pytest.fixture
def stats_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsDirectory]:
    """A fresh directory in which this process, and those that the test starts, record their stats."""
    from .stats import fresh_directory

    with fresh_directory(tmp_path / "mmstats", monkeypatch) as found:
        yield found
