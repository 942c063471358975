"""The pytest plugin: real runs of pytest, whose processes are really killed, and what is said of them."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, need

import mmdebug
import mmstats
from mmdebug.pytest_plugin import _shortened
from mmdebug.pytest_plugin import deaths as pytest_deaths

#: Where the package is installed with its entry point, pytest has the plugin already.
INSTALLED = any(
    (point.group, point.name) == ("pytest11", "mmdebug")
    for distribution in importlib.metadata.distributions()
    for point in distribution.entry_points
)
PLUGIN = () if INSTALLED else ("-p", "mmdebug.pytest_plugin")

DIED = "mmdebug: processes that died"
EARLIER = "mmdebug: died in an earlier run"

VICTIMS = """
    import ctypes, logging, os, signal
    import pytest
    import mmdebug

    def test_fails():
        assert 1 == 2, "as it should"

    def test_segfault():
        logging.getLogger("app").warning("the buffer is odd")
        with mmdebug.activity("decode", size=3):
            ctypes.string_at(0)

    @pytest.fixture
    def leaving():
        os._exit(3)

    def test_leaves(leaving):
        pass

    def test_killed():
        os.kill(os.getpid(), signal.SIGKILL)

    @pytest.mark.parametrize("long", [pytest.param(1, id="x" * 180 + "end")])
    def test_long(long):
        os._exit(4)
"""


class Project:
    """A project with tests, run by pytest in processes of its own."""

    def __init__(self, root: Path, source: str = "", ini: str = "") -> None:
        self.root = root
        root.mkdir()
        (root / "pytest.ini").write_text(f"[pytest]\n{textwrap.dedent(ini)}", encoding="utf-8")
        if source:
            self.write("test_it.py", source)

    def write(self, name: str, source: str) -> None:
        (self.root / name).write_text(textwrap.dedent(source), encoding="utf-8")

    def run(self, *arguments: str, wrap: tuple[str, ...] = (), env: dict[str, str] | None = None) -> tuple[int, str]:
        """The exit code, and what was printed on both streams."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        environment.pop("PYTEST_ADDOPTS", None)
        # A base of its own: else these runs clear away, and trip over, what the outer runs of pytest left.
        base = self.root.with_name(f"{self.root.name}-temporary")
        command = [*wrap, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={base}", *PLUGIN]
        done = subprocess.run(
            [*command, *arguments],
            cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout

    @property
    def home(self) -> Path:
        return Path(pytest_deaths._home(self.root))

    @property
    def kept(self) -> list[Path]:
        """The directories of runs that are there still."""
        return sorted(self.home.glob("run-*"))

    def close(self) -> None:
        shutil.rmtree(self.home)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project")
    yield made
    made.close()


def after(text: str, start: str, end: str = "\n\n") -> str:
    """The part of a text from one mark to the next."""
    assert start in text, text
    return start + text.partition(start)[2].partition(end)[0]


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, str]]:
    """One run with two workers in which four tests kill theirs."""
    need("workers that die", "xdist")
    made = Project(tmp_path_factory.mktemp("crashed") / "project", VICTIMS)
    _, output = made.run("--mmdebug", "-n2")
    yield made, output
    made.close()


def test_a_worker_that_crashed_is_told_with_its_test_its_stack_and_what_was_in_flight(
    crashed: tuple[Project, str],
) -> None:
    told = after(after(crashed[1], DIED, "short test summary"), "died in test_it.py::test_segfault (call)")
    assert "certain [segmentation_fault]" in told
    assert "was told that SIGSEGV ended it" in told
    assert "Fatal Python error: Segmentation fault" in told
    assert "in test_segfault" in told, "the stack"
    assert "_pytest" not in told, "the stack ends at the test"
    assert "decode size=3" in told, "an activity of the program's own"
    assert "WARNING  the buffer is odd" in told, "a log record of the test"


def test_a_worker_that_left_in_a_fixture_is_told_with_its_exit_code(crashed: tuple[Project, str]) -> None:
    told = after(crashed[1], "died in test_it.py::test_leaves (setup)")
    assert "certain [os_exit]" in told
    assert "exit code 3" in told


def test_a_worker_that_was_killed_is_told_with_its_signal(crashed: tuple[Project, str]) -> None:
    told = after(crashed[1], "died in test_it.py::test_killed (call)")
    assert "certain [killed]" in told
    assert "SIGKILL" in told


def test_a_test_with_a_long_name_is_named_in_full(crashed: tuple[Project, str]) -> None:
    assert f"died in test_it.py::test_long[{'x' * 180}end] (call)" in crashed[1]


def test_only_the_processes_that_died_are_told_and_each_once(crashed: tuple[Project, str]) -> None:
    section = after(crashed[1], DIED, "short test summary")
    assert section.count(" died in ") == 4
    assert section.count("died outside") == 0


def test_a_failed_test_is_an_event_of_its_worker(crashed: tuple[Project, str]) -> None:
    project, _ = crashed
    (run,) = project.kept
    found = [death for death in every_process(run) if any(event.name == "test.failed" for event in death.events)]
    assert len(found) == 1
    (event,) = [event for event in found[0].events if event.name == "test.failed"]
    assert event.severity == "error"
    assert event.fields["nodeid"] == "test_it.py::test_fails"
    assert "as it should" in str(event.fields["error"])


def every_process(run: Path) -> list[mmdebug.PostMortem]:
    return [mmdebug.load(stats.path) for stats in mmstats.read_all(run).values()]


def test_the_full_post_mortem_is_where_the_summary_says(crashed: tuple[Project, str]) -> None:
    told = after(crashed[1], "died in test_it.py::test_segfault (call)")
    path = after(told, "mmdebug postmortem ", "\n").split()[-1]
    assert mmdebug.load(path).verdict.causes[0].name == "segmentation_fault"


def test_a_crash_in_collection_names_the_module(project: Project) -> None:
    need("workers that die", "xdist")
    project.write("test_native.py", "import ctypes\nctypes.string_at(0)\n")
    _, output = project.run("--mmdebug", "-n1", "--max-worker-restart=0")
    told = after(output, "died in test_native.py (collect)")
    assert "certain [segmentation_fault]" in told


def test_the_next_run_tells_once_of_the_only_process_that_died(project: Project) -> None:
    project.write("test_it.py", VICTIMS)
    _, first = project.run("--mmdebug", "-k", "segfault")
    assert DIED not in first
    assert "Fatal Python error: Segmentation fault" in first, "what pytest itself shows at once stays"
    code, second = project.run("--mmdebug", "--co")
    told = after(second, EARLIER)
    assert "died in test_it.py::test_segfault (call)" in told
    assert "decode size=3" in told
    assert code == 0
    assert EARLIER not in project.run("--mmdebug", "--co")[1]


def test_without_pytest_s_own_fault_handler_the_next_run_shows_the_stack(project: Project) -> None:
    project.write("test_it.py", VICTIMS)
    project.run("--mmdebug", "-k", "segfault", "-p", "no:faulthandler")
    told = after(project.run("--mmdebug", "--co")[1], EARLIER)
    assert "Fatal Python error: Segmentation fault" in told
    assert "in test_segfault" in told


def test_mmdebug_run_tells_which_test_killed_the_only_process(project: Project, home: Path) -> None:
    project.write("test_it.py", VICTIMS)
    wrap = (sys.executable, "-m", "mmdebug", "run", "--")
    code, output = project.run("--mmdebug", "-k", "segfault", wrap=wrap, env={"COLUMNS": "400"})
    assert code == 128 + 11
    assert "test nodeid=test_it.py::test_segfault" in output
    assert "decode size=3" in output
    assert "Segmentation fault" in output
    assert "in test_segfault" in output
    assert not project.kept, "it is recorded where mmdebug run has it"


def test_a_run_in_which_nothing_died_leaves_nothing(project: Project) -> None:
    project.write("test_it.py", "def test_fine(): pass")
    code, output = project.run("--mmdebug")
    assert code == 0, output
    assert "mmdebug" not in output
    assert project.kept == []


def test_only_a_few_runs_stay(project: Project) -> None:
    for number in range(6):
        run = project.home / f"run-{number}"
        run.mkdir()
        os.utime(run, (1000 + number, 1000 + number))
    made = Path(pytest_deaths.new_directory(project.root))
    assert [path.name for path in project.kept if path != made] == ["run-3", "run-4", "run-5"]


def test_children_of_tests_that_leave_are_no_deaths(project: Project) -> None:
    source = """
        import os, time
        import mmdebug, mmstats

        def test_forks():
            child = os.fork()
            if not child:
                mmdebug.event("in the child")  # so it has files of its own
                os._exit(0)
            os.waitpid(child, 0)
    """
    project.write("test_it.py", source)
    code, output = project.run("--mmdebug")
    assert code == 0, output
    assert "died" not in output
    assert project.kept == []


def test_the_tests_and_their_programs_keep_their_environment_and_their_stats(project: Project, home: Path) -> None:
    source = """
        import os, subprocess, sys
        import mmstats

        class Stats(mmstats.MmStats):
            hits = mmstats.CounterField()

        PROGRAM = "import mmstats; mmstats.MmStats(service='program')"

        def test_it():
            assert not [name for name in os.environ if name.startswith("MMDEBUG")]
            Stats(service="mine").hits.inc()
            subprocess.run([sys.executable, "-c", PROGRAM], check=True)
    """
    project.write("test_it.py", source)
    code, output = project.run("--mmdebug")
    assert code == 0, output
    found = mmstats.read_all(home)
    assert sorted(one.process.service for one in found.values()) == ["mine", "program"]
    assert [one["hits"].value for one in found.values() if one.process.service == "mine"] == [1]


def test_the_ini_file_can_ask_for_it_and_a_directory_is_kept(project: Project, tmp_path: Path) -> None:
    (project.root / "pytest.ini").write_text("[pytest]\nmmdebug = true\n", encoding="utf-8")
    project.write("test_it.py", "import sys\ndef test_on(): assert 'mmdebug.installation' in sys.modules")
    assert project.run()[0] == 0
    assert project.run("--mmdebug-path", str(tmp_path / "kept"))[0] == 0
    (stats,) = mmstats.read_all(tmp_path / "kept").values()
    assert stats.process.service == "pytest"
    assert stats.process.state == "closed"


@pytest.mark.parametrize(("arguments", "env"), [((), {}), (("--mmdebug",), {"MMDEBUG_DISABLE": "1"})])
def test_it_does_nothing_unless_it_is_asked_for(
    project: Project, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    source = """
        import sys

        def test_nothing_is_loaded():
            for name in ("installation", "box", "fault", "logs", "hooks", "pytest_deaths", "pytest_stats"):
                assert f"mmdebug.{name}" not in sys.modules or name == "logs", name
            assert not sys.modules["mmdebug.recorder"].recorder.on
    """
    project.write("test_it.py", source)
    code, output = project.run(*arguments, env=env)
    assert code == 0, output
    assert project.kept == []


def test_without_a_place_to_record_the_tests_run_all_the_same(project: Project, tmp_path: Path) -> None:
    project.write("test_it.py", "def test_fine(): pass")
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, output = project.run("--mmdebug", "--mmdebug-path", str(tmp_path / "file" / "in"))
    assert code == 0, output
    assert "1 passed" in output


def test_what_a_test_calls_itself_does_not_write_to_the_terminal(project: Project) -> None:
    need("workers that die", "xdist")
    source = """
        import os, pytest
        import mmdebug

        def test_it():
            mmdebug.event("\\x1b[31mred\\x1b]0;title\\x07")
            os._exit(1)
    """
    project.write("test_it.py", source)
    _, output = project.run("--mmdebug", "-n1", "--max-worker-restart=0")
    told = after(output, DIED, "short test summary")
    assert "red" in told
    assert "\x1b" not in told
    assert "\x07" not in told


def test_a_shortened_id_keeps_its_ends() -> None:
    assert _shortened("a.py::test") == "a.py::test"
    cut = _shortened("begin" + "x" * 200 + "end")
    assert len(cut) <= 140
    assert cut.startswith("begin")
    assert cut.endswith("end")


FIXTURE = """
    import os, subprocess, sys
    import pytest
    import mmstats
    import shop

    class Local(mmstats.MmStats):
        hits = mmstats.CounterField()
        by_status = mmstats.CounterField(labelnames=("status",))

    @pytest.mark.parametrize("again", [1, 2])
    def test_a_model_made_at_import_begins_anew(stats_directory, again):
        shop.sell(3)
        assert stats_directory.value("sold") == 3
        assert stats_directory.read().process.pid == os.getpid()
        assert stats_directory.read("shop")["sold"].value == 3

    @pytest.mark.parametrize("again", [1, 2])
    def test_a_model_made_in_the_test_has_the_directory(stats_directory, again):
        stats = Local(service="local")
        stats.hits.inc(2)
        stats.by_status.labels("404").inc()
        assert stats_directory.value("hits") == 2
        assert stats_directory.value("by_status", status=404) == 1
        with pytest.raises(KeyError):
            stats_directory.value("misses")
        assert list(stats_directory.path.glob("local-*.mmstats"))

    def test_a_name_may_have_another_meaning_in_another_test(stats_directory):
        class Other(mmstats.MmStats):
            hits = mmstats.GaugeField()
        stats = Other(service="other")
        stats.hits.set(7)
        assert stats_directory.value("hits") == 7

    def test_both_together_have_to_be_told_apart(stats_directory):
        stats = Local(service="local")
        stats.hits.inc()
        shop.sell(1)
        with pytest.raises(mmstats.TargetError, match="2 files"):
            stats_directory.read()
        assert stats_directory.read("local")["hits"].value == 1

    def test_nothing_is_there_at_first(stats_directory):
        with pytest.raises(mmstats.TargetError, match="nothing"):
            stats_directory.read()
        assert stats_directory.deaths() == []

    def test_programs_record_there_and_their_deaths_are_found(stats_directory):
        source = "import os, shop; shop.sell(5); os.kill(os.getpid(), 9)"
        subprocess.run([sys.executable, "-c", source])
        assert stats_directory.value("sold") == 5
        (death,) = stats_directory.deaths("shop")
        assert death.verdict.state == "died"
        assert death.stats["sold"].value == 5

    def test_a_forked_child_has_its_own(stats_directory):
        shop.sell(1)
        child = os.fork()
        if not child:
            shop.sell(10)
            os._exit(0)
        os.waitpid(child, 0)
        assert stats_directory.value("sold") == 1
        assert sorted(one["sold"].value for one in mmstats.read_all(stats_directory.path).values()) == [1, 10]

    def test_afterwards_it_is_as_before():
        assert os.environ["MMSTATS_PATH"] == os.environ["HOME_OF_STATS"]
        shop.sell(4)
        (mine,) = mmstats.read_all(pid=os.getpid(), service="shop").values()
        assert mine["sold"].value == 4
"""


@pytest.mark.parametrize("arguments", [(), ("--mmdebug",)])
def test_a_program_s_stats_are_tested_by_the_fixture(project: Project, home: Path, arguments: tuple[str, ...]) -> None:
    project.write("conftest.py", "")
    project.write(
        "shop.py",
        """
        import mmstats

        class ShopStats(mmstats.MmStats):
            sold = mmstats.CounterField()

        stats = ShopStats(service="shop")

        def sell(count):
            stats.sold.inc(count)
        """,
    )
    project.write("test_shop.py", FIXTURE)
    path = os.pathsep.join([str(ROOT), str(project.root)])
    code, output = project.run(*arguments, "-W", "error", env={"HOME_OF_STATS": str(home), "PYTHONPATH": path})
    assert code == 0, output
