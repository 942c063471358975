"""A client's code in the hub, in the loop, in the main thread and in one of ours: run once, and ended when told.

Each program is a real one with a hub or a loop of its own; a native thread in it asks what a session would.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Program

#: Runs `scenario` in a native thread, and says on the real standard output what it found.
RUNNER = """
    import json, os, sys, threading, time, traceback
    from mmdebug import native
    from prompting import Prompt
    native.note_main()
    sleep = native.original("time", "sleep")
    found, ended, running, namespace = {}, [], [True], globals()

    def run(scenario):
        try:
            scenario()
        except BaseException:
            found["failed"] = traceback.format_exc()
        try:
            line = json.dumps(found, default=lambda body: f"bytes {len(body)}")
        except BaseException:
            line = json.dumps({"failed": traceback.format_exc()})
        os.write(1, line.encode() + b"\\n")
        running.clear()

    def interrupted(prompt, code, seconds=0.15, **fields):
        ready.clear()
        number = prompt.submit(code, **fields)
        prompt.until(lambda: ready)
        how = prompt.executor.interrupt()
        return {**prompt.final(number), "how": how}

    def overtaken(prompt, code):
        # Its greenlet or task is made, and before that has its turn something blocks the hub or the loop.
        places, began = prompt.executor.places, []
        places.call(lambda: (began.append(1), sleep(0.2)))
        prompt.until(lambda: began)
        number = prompt.submit(code)
        places.call(lambda: sleep(1.0))
        return number

    ready = []
"""

GEVENT = """
    import gevent, gevent.event, gevent.lock, signal
    from mmdebug.stacks.take import take
    never = gevent.event.Event()
    notes = []

    def innocent():
        while running:
            try:
                for _ in range(2000):
                    pass
                gevent.sleep(0)
            except BaseException as error:
                notes.append(repr(error))
                raise

    def scenario():
        prompt = Prompt(namespace)
        found["plain"] = prompt.ask("print('hello'); gevent.getcurrent().__class__.__name__")
        found["thread"] = prompt.text("native.get_ident() == native.main_ident()")
        found["cpu"] = interrupted(prompt, "ready.append(1)\\nwhile True: pass")
        found["waiting"] = interrupted(prompt, "ready.append(1); never.wait()")
        found["turns"] = interrupted(prompt, "ready.append(1)\\nwhile True:\\n  gevent.sleep(0)\\n  sum(range(50))")
        found["child"] = interrupted(
            prompt,
            "def loop():\\n  ready.append(1)\\n  while True: pass\\n"
            "child = gevent.spawn(loop); gevent.sleep(0); never.wait()")
        found["child ended"] = prompt.text("child.ready()")
        found["stubborn"] = interrupted(
            prompt,
            "def f():\\n  ready.append(1)\\n  x = 0\\n  while True:\\n    try:\\n      x += 1\\n"
            "      while True: x += 1\\n    except BaseException: break\\n  while True: x += 1\\nf()")
        found["timeout"] = prompt.ask("while True: pass", timeout=0.1)
        ready.clear()
        prompt.ask("def f():\\n  ready.append(2)\\n  while True: pass\\n\\nchild = gevent.spawn_later(0.01, f)")
        prompt.until(lambda: ready)
        found["left how"] = prompt.executor.interrupt()
        found["left ended"] = prompt.text("child.join(5); child.ready()")
        found["spawned prints"] = prompt.ask("g = gevent.spawn(print, 'from a child'); g.join()")["stdout"]
        found["exit"] = prompt.ask("exit()")
        found["exit in a child"] = prompt.text("c = gevent.spawn(exit); c.join(); type(c.exception).__name__")
        found["destructor"] = interrupted(
            prompt,
            "class Own:\\n  def __del__(self):\\n    ready.append(1)\\n    for _ in range(300_000): pass\\n"
            "    freed.append(1)\\nfreed = []\\nown = Own()\\ndel own\\nnever.wait()")
        found["freed"] = prompt.text("freed")
        found["handler"] = interrupted(
            prompt, "import signal; os.kill(os.getpid(), signal.SIGUSR1)\\nwhile True: pass")
        found["handled"] = handled
        found["finalizer"] = interrupted(
            prompt,
            "class Own: pass\\n\\nimport weakref\\nown = Own(); weakref.finalize(own, slowly); del own; never.wait()")
        found["finalized"] = handled
        found["private hub"] = interrupted(prompt, "ready.append(1); gevent.sleep(1000)", where="native")
        number = prompt.submit("def waits():\\n  ready.append(1)\\n  never.wait()\\n\\nready.clear(); waits()")
        prompt.until(lambda: len(ready) == 1)
        def own():
            found = take().to_dict()["stacks"]
            return [one for one in found if one["names"][:1] == [f"mmdebug {number}"] and one["wait"]]
        found["stacks"] = prompt.until(own)
        prompt.executor.interrupt()
        prompt.final(number)
        found["keyboard"] = prompt.ask("raise KeyboardInterrupt")
        # The hub blocked by the program's own code.
        block = []
        def hold(seconds):
            block.append(1)
            sleep(seconds)
        hub.loop.run_callback_threadsafe(lambda: gevent.spawn(hold, 1.6))
        prompt.until(lambda: block)
        found["late"] = prompt.ask("ran = globals().get('ran', 0) + 1; ran")
        found["await"] = prompt.ask("await x")
        found["native"] = prompt.ask("gevent.sleep(0.01); native.get_ident() == native.main_ident()",
                                     where="native")
        gone = []
        hub.loop.run_callback_threadsafe(lambda: gone.append(1))
        prompt.until(lambda: gone)
        found["ran once"] = prompt.text("ran")
        found["overtaken"] = prompt.final(overtaken(prompt, "made = globals().get('made', 0) + 1; made"))
        ready.clear()
        number = overtaken(prompt, "ready.append(1); gevent.sleep(1000)")
        prompt.until(lambda: ready)
        prompt.executor.interrupt()
        found["overtaken waits"] = prompt.final(number)
        gone.clear()
        hub.loop.run_callback_threadsafe(lambda: gone.append(1))
        prompt.until(lambda: gone)
        found["made once"] = prompt.text("made")
        # A native call in the hub.
        found["stuck"] = prompt.ask("sleep(1.9)", timeout=0.1)
        found["meanwhile"] = prompt.ask("6 * 7")
        prompt.until(lambda: prompt.executor._stuck[0].over)
        found["after"] = prompt.ask("6 * 8")
        # The client goes.
        ready.clear()
        prompt.submit("ready.append(1)\\nwhile True: pass")
        prompt.until(lambda: ready)
        prompt.close()
        gone.clear()
        hub.loop.run_callback_threadsafe(lambda: gone.append(1))
        deadline = time.monotonic() + 10
        while not gone and time.monotonic() < deadline:
            sleep(0.001)
        found["hub is free"] = bool(gone)
        found["notes"] = notes
        found["stdout"] = type(sys.stdout).__name__

    def slowly(*_):
        ready.append(1)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass
        handled.append(len(handled))

    handled = []
    signal.signal(signal.SIGUSR1, slowly)
    hub = gevent.get_hub()
    others = [gevent.spawn(innocent) for _ in range(3)]
    native.start_thread(run, scenario)
    gevent.joinall(others)
"""

ASYNC = """
    import asyncio
    notes = []

    async def innocent():
        while running:
            try:
                for _ in range(2000):
                    pass
                await asyncio.sleep(0)
            except BaseException as error:
                notes.append(repr(error))
                raise

    def scenario():
        prompt = Prompt(namespace)
        found["plain"] = prompt.ask("print('hello'); type(asyncio.current_task()).__name__")
        found["thread"] = prompt.text("native.get_ident() == native.main_ident()")
        found["awaited"] = prompt.text("await asyncio.sleep(0.001, 'slept')")
        found["cell"] = prompt.text("x = await asyncio.sleep(0, 5)\\nasync with asyncio.Lock(): y = x\\ny")
        found["cpu"] = interrupted(prompt, "ready.append(1)\\nwhile True: pass")
        found["waiting"] = interrupted(prompt, "ready.append(1)\\nawait asyncio.Event().wait()")
        found["turns"] = interrupted(
            prompt, "ready.append(1)\\nwhile True:\\n  await asyncio.sleep(0)\\n  sum(range(50))")
        # While the loop notes that a task goes on, which would be the end of the task if it failed.
        call_soon, holding = loop.call_soon, namespace.setdefault("holding", [])
        def slow(*arguments, **keywords):
            if holding:
                del holding[:]
                ready.append(1)
                until = time.monotonic() + 0.3
                while time.monotonic() < until:
                    pass
            return call_soon(*arguments, **keywords)
        loop.call_soon = slow
        found["between steps"] = interrupted(
            prompt, "while True:\\n  await asyncio.sleep(0)\\n  if not ready: holding.append(1)")
        del loop.call_soon
        found["timeout"] = prompt.ask("await asyncio.sleep(60)", timeout=0.1)
        found["child"] = interrupted(
            prompt,
            "async def spin():\\n  ready.append(1)\\n  while True: pass\\n"
            "child = asyncio.create_task(spin())\\nawait asyncio.Event().wait()")
        found["child ended"] = prompt.text("isinstance(child.exception(), BaseException)")
        found["exit"] = prompt.ask("exit()")
        found["exit in a child"] = prompt.text(
            "async def f(): exit()\\nc = asyncio.create_task(f())\\nawait asyncio.wait([c])\\n"
            "type(c.exception()).__name__")
        found["keyboard"] = prompt.ask("raise KeyboardInterrupt")
        found["cancelled"] = prompt.ask("raise asyncio.CancelledError")
        block = []
        def hold(seconds):
            block.append(1)
            sleep(seconds)
        loop.call_soon_threadsafe(hold, 1.3)
        prompt.until(lambda: block)
        found["late"] = prompt.ask("ran = globals().get('ran', 0) + 1; ran")
        found["await"] = prompt.ask("await asyncio.sleep(0)", where="native")
        gone = []
        loop.call_soon_threadsafe(gone.append, 1)
        prompt.until(lambda: gone)
        found["ran once"] = prompt.text("ran")
        found["overtaken"] = prompt.final(overtaken(prompt, "made = globals().get('made', 0) + 1; made"))
        gone.clear()
        loop.call_soon_threadsafe(gone.append, 1)
        prompt.until(lambda: gone)
        found["made once"] = prompt.text("made")
        found["stuck"] = prompt.ask("sleep(1.5)", timeout=0.1)
        prompt.until(lambda: prompt.executor._stuck[0].over)
        found["after"] = prompt.ask("6 * 8")
        ready.clear()
        prompt.submit("ready.append(1)\\nwhile True: pass")
        prompt.until(lambda: ready)
        prompt.close()
        gone.clear()
        loop.call_soon_threadsafe(gone.append, 1)
        deadline = time.monotonic() + 10
        while not gone and time.monotonic() < deadline:
            sleep(0.001)
        found["hub is free"] = bool(gone)
        found["notes"] = notes
        found["stdout"] = type(sys.stdout).__name__

    async def main():
        global loop
        loop = asyncio.get_running_loop()
        native.start_thread(run, scenario)
        await asyncio.gather(*[innocent() for _ in range(3)])
"""

THREADS = """
    import signal
    notes = []

    def scenario():
        prompt = Prompt(namespace)
        found["plain"] = prompt.ask("native.get_ident() == native.main_ident()")
        found["main"] = prompt.ask("native.get_ident() == native.main_ident()", where="main")
        found["app"] = prompt.ask("1", where="app")
        found["cpu"] = interrupted(prompt, "ready.append(1)\\nwhile True: pass", where="main")
        found["native cpu"] = interrupted(prompt, "ready.append(1)\\nwhile True: pass")
        found["exit"] = prompt.ask("exit(3)", where="main")
        sitting.append(1)
        prompt.until(lambda: sits)
        found["late"] = prompt.ask("ran = globals().get('ran', 0) + 1; ran", where="main")
        leave.release()
        prompt.until(lambda: not sits)
        # What a signal's handler raises is the program's, wherever it comes.
        for number in (signal.SIGINT, signal.SIGTERM):
            del ready[:], caught[:]
            asked = prompt.submit("ready.append(1)\\nwhile True: pass", where="main")
            prompt.until(lambda: ready)
            os.kill(os.getpid(), number)
            found[number.name] = prompt.final(asked)
            prompt.until(lambda: caught)
            found[number.name + " caught"] = caught[0]
        prompt.close()

    def stop(number, frame):
        raise SystemExit("told to stop")

    sitting, sits, caught, leave = [], [], [], native.allocate_lock()
    leave.acquire()
    signal.signal(signal.SIGTERM, stop)
    native.start_thread(run, scenario)
    def work():
        while running:
            sum(range(500))
            if sitting:
                sitting.clear()
                sits.append(1)
                leave.acquire()
                sits.clear()

    while running:
        try:
            work()
        except BaseException as error:
            caught.append(repr(error))
"""

PROGRAMS = {
    "threads": RUNNER + THREADS,
    "gevent": RUNNER + GEVENT,
    "patched": "\n    from gevent import monkey; monkey.patch_all()\n" + RUNNER + GEVENT,
    "asyncio": RUNNER + ASYNC + "\n    asyncio.run(main())\n",
    "uvloop": RUNNER + ASYNC + "\n    import uvloop; uvloop.new_event_loop().run_until_complete(main())\n",
}


def outcome(source: str, home: Path) -> dict[str, Any]:
    program = Program(source, home, {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    try:
        out, err = program.finish()
    finally:
        program.kill()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert "failed" not in found, found["failed"]
    found["out"], found["err"] = "\n".join(out.splitlines()[:-1]), err
    return found


LOOPS = pytest.mark.parametrize("found", ["asyncio", "uvloop"], indirect=True, scope="module")
HUBS = pytest.mark.parametrize("found", ["gevent", "patched"], indirect=True, scope="module")


@pytest.fixture(scope="module", params=["gevent", "patched", "asyncio", "uvloop"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip({"asyncio": "asyncio", "uvloop": "uvloop"}.get(request.param, "gevent"))
    return {**outcome(PROGRAMS[request.param], tmp_path_factory.mktemp("home")), "kind": request.param}


def place(found: dict[str, Any]) -> str:
    return "hub" if found["kind"] in ("gevent", "patched") else "loop"


def test_code_runs_where_the_application_lives(found: dict[str, Any]) -> None:
    plain = found["plain"]
    assert plain["where"] == place(found)
    assert [message["where"] for message in plain["started"]] == [place(found)]
    assert plain["data"]["text/plain"] == ("'Greenlet'" if place(found) == "hub" else "'Task'")
    assert plain["stdout"] == "hello\n" and "hello" not in found["out"]
    assert found["thread"] == "True"


@pytest.mark.parametrize("what", ["cpu", "waiting", "turns", "child"])
def test_what_runs_or_waits_ends_when_it_is_told(found: dict[str, Any], what: str) -> None:
    answer = found[what]
    assert (answer["type"], answer["kind"], answer["stuck"]) == ("error", "interrupted", False)
    assert answer["where"] == place(found)
    if what != "child":
        assert answer["traceback"][1].strip().startswith('File "<mmdebug'), answer["traceback"]
    assert not any("mmdebug/manhole" in line for line in answer["traceback"])


def test_a_limit_of_time_ends_it(found: dict[str, Any]) -> None:
    answer = found["timeout"]
    assert (answer["kind"], answer["stuck"]) == ("timeout", False)
    assert "0.1 s" in answer["message"]


def test_what_a_command_has_spawned_ends_with_it(found: dict[str, Any]) -> None:
    assert found["child ended"] == "True"


def test_nothing_of_the_programs_own_was_hit(found: dict[str, Any]) -> None:
    assert found["notes"] == []


def test_exit_and_ctrl_c_in_the_code_end_nothing(found: dict[str, Any]) -> None:
    assert (found["exit"]["kind"], found["exit"]["name"]) == ("exception", "Exit")
    assert found["exit in a child"] == "'Exit'"  # where a SystemExit would end the program
    assert (found["keyboard"]["kind"], found["keyboard"]["name"]) == ("exception", "KeyboardInterrupt")


def test_a_place_that_does_not_answer_is_given_up_and_never_runs_it_late(
    found: dict[str, Any],
) -> None:
    late = found["late"]
    assert late["type"] == "result" and late["where"] == "native"
    assert late["started"][0]["where"] == "native" and "did not come to it within 0.5 s" in late["started"][0]["reason"]
    assert found["ran once"] == "1"


@LOOPS
def test_a_task_that_has_paused_is_not_lost(found: dict[str, Any]) -> None:
    assert (found["between steps"]["kind"], found["between steps"]["stuck"]) == ("interrupted", False)
    assert found["err"] == ""


def test_one_that_was_overtaken_before_its_first_step_runs_once(found: dict[str, Any]) -> None:
    assert (found["overtaken"]["where"], found["made once"]) == ("native", "1")


@HUBS
def test_one_that_was_overtaken_is_ended_where_it_runs(found: dict[str, Any]) -> None:
    answer = found["overtaken waits"]
    assert (answer["where"], answer["kind"], answer["stuck"]) == ("native", "interrupted", False)
    assert found["err"] == ""


def test_there_is_nothing_to_await_on_in_a_thread_of_its_own(found: dict[str, Any]) -> None:
    assert found["await"]["name"] == "NoLoop" and "no event loop" in found["await"]["message"]


def test_a_native_call_can_not_be_stopped_and_that_is_said(found: dict[str, Any]) -> None:
    stuck = found["stuck"]
    assert (stuck["kind"], stuck["stuck"]) == ("timeout", True) and "could not be stopped" in stuck["advice"]
    assert stuck["body"].startswith("bytes")
    assert found["after"]["data"]["text/plain"] == "48" and found["after"]["where"] == place(found)


def test_code_whose_client_has_gone_is_ended(found: dict[str, Any]) -> None:
    assert found["hub is free"] is True
    assert found["stdout"] == "TextIOWrapper"


@HUBS
def test_greenlets_that_a_command_left_behind_can_be_ended(found: dict[str, Any]) -> None:
    assert found["left ended"] == "True" and "left running" in found["left how"]


@HUBS
def test_code_that_catches_what_is_to_end_it_is_told_again(found: dict[str, Any]) -> None:
    assert (found["stubborn"]["kind"], found["stubborn"]["stuck"]) == ("interrupted", False)


@HUBS
def test_what_waits_in_a_thread_of_ours_is_ended_by_the_hub_of_that(found: dict[str, Any]) -> None:
    assert (found["private hub"]["kind"], found["private hub"]["stuck"]) == ("interrupted", False)


@HUBS
def test_a_destructor_that_runs_in_a_clients_code_is_not_interrupted(found: dict[str, Any]) -> None:
    assert (found["destructor"]["kind"], found["freed"]) == ("interrupted", "[1]")


@HUBS
def test_what_the_program_does_in_the_midst_of_a_clients_code_is_not_interrupted(found: dict[str, Any]) -> None:
    assert found["handler"]["kind"] == found["finalizer"]["kind"] == "interrupted"
    assert found["handled"] == [0, 1]


@HUBS
def test_the_stack_of_a_command_is_its_clients_own_code(found: dict[str, Any]) -> None:
    [stack] = found["stacks"]
    assert [frame["function"] for frame in stack["frames"] if "gevent" not in frame["file"]] == ["<module>", "waits"]
    assert all(frame["file"].startswith("<mmdebug ") for frame in stack["frames"] if "gevent" not in frame["file"])


@HUBS
def test_what_a_spawned_greenlet_prints_is_its_sessions(found: dict[str, Any]) -> None:
    assert found["spawned prints"] == "from a child\n" and "from a child" not in found["out"]


@HUBS
def test_while_one_is_stuck_in_the_hub_the_session_goes_on_natively(found: dict[str, Any]) -> None:
    assert found["meanwhile"]["data"]["text/plain"] == "42" and found["meanwhile"]["where"] == "native"
    assert found["native"]["data"]["text/plain"] == "False"


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return outcome(PROGRAMS["threads"], tmp_path_factory.mktemp("home"))


def test_without_hub_or_loop_the_main_thread_is_taken_only_when_it_is_asked_for(threads: dict[str, Any]) -> None:
    assert (threads["plain"]["where"], threads["plain"]["data"]["text/plain"]) == ("native", "False")
    assert (threads["main"]["where"], threads["main"]["data"]["text/plain"]) == ("main", "True")
    assert threads["app"]["where"] == "main"


def test_code_in_the_main_thread_and_in_one_of_ours_ends_when_it_is_told(threads: dict[str, Any]) -> None:
    for what in ("cpu", "native cpu"):
        assert (threads[what]["kind"], threads[what]["stuck"]) == ("interrupted", False)
    assert (threads["exit"]["name"], threads["exit"]["message"]) == ("Exit", "3")


def test_a_main_thread_that_sits_in_a_c_call_is_given_up(threads: dict[str, Any]) -> None:
    assert (threads["late"]["where"], threads["late"]["data"]["text/plain"]) == ("native", "1")
    assert "the main thread did not come to it" in threads["late"]["started"][0]["reason"]


def test_what_a_signals_handler_raises_in_a_clients_code_reaches_the_program(threads: dict[str, Any]) -> None:
    assert threads["SIGINT caught"] == "KeyboardInterrupt()" and threads["SIGINT"]["name"] == "KeyboardInterrupt"
    assert threads["SIGTERM caught"] == "SystemExit('told to stop')" and threads["SIGTERM"]["name"] == "SystemExit"
    assert "passed on to the program" in threads["SIGTERM"]["message"]
