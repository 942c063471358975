"""Code of a client: cells, values, awaits, and errors as their tracebacks."""

from __future__ import annotations

import asyncio
import linecache
from typing import Any

import pytest

from mmdebug.manhole import evaluation
from mmdebug.manhole.awaiting import Apart
from mmdebug.manhole.evaluation import Cells, NoLoop, evaluate, failure_of
from mmdebug.manhole.output import Channel, Output, enter, leave


def run(code: str, mode: str = "cell", names: dict[str, Any] | None = None, cells: Cells | None = None) -> Any:
    """The value of code that awaits nothing."""
    coroutine = evaluate((cells or Cells()).compile(code, mode), {} if names is None else names, None, "this is a test")
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it awaited")


def failure(code: str, mode: str = "cell", names: dict[str, Any] | None = None) -> evaluation.Failure:
    try:
        run(code, mode, names)
    except BaseException as error:
        here = error.__traceback__
        while here is not None and here.tb_frame.f_code.co_filename == __file__:
            here = here.tb_next
        return failure_of(error.with_traceback(here))
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    ("code", "mode", "value"),
    [
        ("1 + 1", "cell", 2),
        ("x = 5\nx * 2", "cell", 10),
        ("x = 5", "cell", None),
        ("# nothing", "cell", None),
        ("", "cell", None),
        ("  [1,\n 2]\n", "eval", [1, 2]),
        ("x = 3; x", "exec", None),
    ],
)
def test_each_mode_has_its_value(code: str, mode: str, value: Any) -> None:
    assert run(code, mode) == value


def test_eval_takes_an_expression_and_nothing_else() -> None:
    assert failure("x = 1", "eval").name == "SyntaxError"


def test_a_future_import_holds_for_the_cells_that_follow_and_only_in_its_session() -> None:
    cells, names = Cells(), dict[str, Any]()
    run("from __future__ import annotations", cells=cells, names=names)
    run("def f(x: undefined): pass", cells=cells, names=names)
    assert names["f"].__annotations__ == {"x": "undefined"}
    assert failure("def f(x: undefined): pass").name == "NameError"


def test_await_works_at_the_top_where_there_is_a_loop() -> None:
    async def main() -> Any:
        code = "import asyncio\nx = await asyncio.sleep(0, 4)\n[await asyncio.sleep(0, x) async for x in f()]"
        return await evaluate(Cells().compile(code), {"f": f}, Apart(Output(Channel(lambda: None), 1, 100)))

    async def f() -> Any:
        yield 1
        yield 2

    assert asyncio.run(main()) == [1, 2]
    with pytest.raises(NoLoop, match="no event loop to await on: this is a test"):
        run("import asyncio\nawait asyncio.sleep(0)")


def test_a_traceback_has_the_frames_of_the_code_and_its_lines_and_none_of_ours() -> None:
    found = failure("def f(x):\n    secret = 'local value'\n    return 1 / x\n\nf(0)")
    text = "\n".join(found.traceback)
    assert found.name == "ZeroDivisionError" and found.message == "division by zero"
    assert "return 1 / x" in text and "f(0)" in text and text.startswith("Traceback (most recent call last):")
    assert "manhole" not in text and "local value" not in text.replace("secret = 'local value'", "")
    assert found.traceback[-1] == "ZeroDivisionError: division by zero"


def test_causes_and_groups_are_shown_as_python_shows_them() -> None:
    found = failure("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error")
    assert "The above exception was the direct cause of the following exception:" in found.traceback
    found = failure("raise ExceptionGroup('several', [ValueError(1), TypeError(2)])")
    assert any("ValueError: 1" in line for line in found.traceback)


def test_what_is_no_python_is_shown_with_the_place() -> None:
    found = failure("x = (1,\ny = 2")
    assert found.name == "SyntaxError" and found.traceback[0].startswith('  File "<mmdebug')
    assert failure("(" * 500 + ")" * 500).name in ("SyntaxError", "MemoryError", "RecursionError")
    assert failure("x = '\0'").name in ("SyntaxError", "ValueError")


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_that_can_not_be_shown_is_told_all_the_same() -> None:
    found = failure_of(Hostile())
    assert found.name == "Hostile" and "RuntimeError" in found.message and found.traceback
    found = failure("raise ValueError('x' * 10_000_000)")
    assert len(found.message) <= evaluation.MAX_MESSAGE
    assert sum(map(len, found.traceback)) < evaluation.MAX_TEXT
    found = failure("f = lambda n: f(n) if n % 2 else g(n)\ng = lambda n: f(n + 1)\nf(0)")
    assert found.name == "RecursionError" and len(found.traceback) <= evaluation.MAX_LINES + 1


def test_the_lines_of_a_session_are_bounded_and_go_with_it() -> None:
    def ours() -> list[str]:
        return [name for name in linecache.cache if name.startswith("<mmdebug")]

    before = len(ours())
    cells = Cells()
    for _ in range(3 * evaluation.KEPT):
        cells.compile("1")
    assert len(ours()) == before + evaluation.KEPT
    for _ in range(10):
        cells.compile("x" * (evaluation.KEPT_CHARACTERS // 4))
    assert len(ours()) <= before + 4
    cells.close()
    assert len(ours()) == before


#: Code of a client that waits, and whether what it waits for is the program's, and so has to go on.
WAITS = {
    "await worker": True,
    "await shared": True,
    "await asyncio.shield(worker)": True,
    "await asyncio.gather(worker, own())": True,
    "await asyncio.gather(own(), own())": False,
    "task = asyncio.create_task(own())\nawait task": False,
    "await asyncio.wait_for(own(), 100)": False,
    "async with asyncio.timeout(100): await own()": False,
    "await own()": False,
}


@pytest.mark.parametrize("code", WAITS)
def test_to_end_an_await_ends_nothing_of_the_programs(code: str) -> None:
    async def work() -> None:
        await asyncio.sleep(1000)

    async def own() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(1)

    async def command(names: dict[str, Any]) -> None:
        output = Output(Channel(lambda: None), 1, 100)
        token = enter(output)
        try:
            await evaluate(Cells().compile(code), names, Apart(output))
        finally:
            leave(output, token)

    async def program() -> None:
        worker, shared = asyncio.create_task(work()), asyncio.get_running_loop().create_future()
        names = {"asyncio": asyncio, "worker": worker, "shared": shared, "own": own}
        running = asyncio.create_task(command(names))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.01)
        assert not worker.done() and not shared.done()
        assert len(ended) == code.count("own()")
        worker.cancel()

    ended: list[int] = []
    asyncio.run(program())


def test_what_is_awaited_apart_comes_out_as_it_is() -> None:
    async def program() -> None:
        async def fail() -> None:
            raise ValueError("of the program")

        async def ask(code: str, names: dict[str, Any]) -> Any:
            return await evaluate(Cells().compile(code), names, Apart(Output(Channel(lambda: None), 1, 100)))

        async def seven() -> int:
            return 7

        names: dict[str, Any] = {"asyncio": asyncio, "task": asyncio.create_task(seven())}
        assert await ask("await asyncio.gather(task, asyncio.sleep(0, 8))", names) == [7, 8]
        names["task"] = asyncio.create_task(fail())
        with pytest.raises(ValueError, match="of the program"):
            await ask("await task", names)
        shared = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await ask("async with asyncio.timeout(0.01): await shared", {**names, "shared": shared})
        assert not shared.done()

    asyncio.run(program())
