"""Drive `scripts/demo`: serve, send requests, ask a live worker, kill it, read what it left, and check the sums."""

from __future__ import annotations

import collections
import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mmdebug
import mmstats

HERE = os.path.dirname(os.path.abspath(__file__))
#: Lines of the stacks that are shown.
MOST = 17
REQUESTS = (("GET", "/"), ("GET", "/items/7"), ("POST", "/basket"), ("GET", "/items/42"), ("GET", "/missing"))


def say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 15
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"demo: waited 15 s for {what}")
        time.sleep(0.02)
    return found


def command(*arguments: str) -> None:
    print(f"$ {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", *arguments], check=True)


def told_by(*arguments: str) -> str:
    """Run a command that is to succeed, show the begin and the end of what it prints, and return all of it."""
    print(f"$ {shlex.join(arguments)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
    )
    lines = done.stdout.splitlines()
    if len(lines) > MOST + 3:
        lines[MOST:-2] = [f"[... {len(lines) - MOST - 2} lines ...]"]
    print("\n".join(lines), flush=True)
    if done.returncode:
        raise SystemExit(f"demo: {shlex.join(arguments)} ended with {done.returncode}")
    return done.stdout


def workers() -> list[mmstats.Snapshot]:
    return list(mmstats.read_all(service="shop").alive.values())


class Client:
    """Sends requests and counts the answers that it got."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: collections.Counter[tuple[str, str]] = collections.Counter()
        self.cut_off = 0
        self._lock = threading.Lock()

    def send(self, request: tuple[str, str]) -> None:
        method, path = request
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            with self._lock:
                self.answers[method, str(response.status)] += 1
        except (OSError, http.client.HTTPException):
            with self._lock:
                self.cut_off += 1
        finally:
            connection.close()

    def send_many(self, count: int) -> None:
        requests = [REQUESTS[i % len(REQUESTS)] for i in range(count)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.send, requests))


def main() -> int:
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    home = tempfile.mkdtemp(prefix="mmstats-demo-", dir=base)
    os.environ["MMSTATS_PATH"] = home
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = None
    try:
        server = serve(listener)
        return play(Client(listener.getsockname()[1]), server)
    finally:
        if server is not None and server.poll() is None:
            server.kill()
            server.wait()
        listener.close()
        shutil.rmtree(home)


def serve(listener: socket.socket) -> subprocess.Popen[bytes]:
    """gunicorn on a socket that is bound already, so that no port can be taken twice."""
    arguments: Sequence[str] = (
        "--worker-class", "gevent", "--workers", "2", "--bind", f"fd://{listener.fileno()}", "--chdir", HERE,
        "--log-level", "error", "demo_app:app",
    )  # fmt: skip
    say("gunicorn with two gevent workers serves a small shop (scripts/demo_app.py)")
    print(f"$ mmdebug run -- gunicorn {' '.join(arguments)}", flush=True)
    # Without the report of its own at the end: this program shows it.
    run = [sys.executable, "-m", "mmdebug", "run", "--no-report", "--", sys.executable, "-m", "gunicorn"]
    return subprocess.Popen([*run, *arguments], pass_fds=[listener.fileno()])


def play(client: Client, server: subprocess.Popen[bytes]) -> int:
    wait_for(lambda: len(workers()) == 2, "two workers")
    client.send_many(300)
    say("300 requests later: who records?")
    command("mmstats", "ls")
    say("What do they record? Both workers as one:")
    command("mmstats", "show", "shop", "--merge")

    slow = threading.Thread(target=client.send, args=(("GET", "/report"),))
    slow.start()
    victim = wait_for(lambda: at("GET /report"), "a worker that answers the slow request").process.pid
    failures = ask(victim) + ask_while_blocked(client)

    say(f"Worker {victim} is still in the middle of its report. SIGKILL:")
    os.kill(victim, signal.SIGKILL)
    slow.join()
    print(f"killed; its client's connection was cut off: {client.cut_off == 1}")
    wait_for(lambda: len(workers()) == 2, "gunicorn to start another worker")
    client.send_many(100)
    say("gunicorn has started another worker, and 100 more requests were answered. The dead one's file is still there:")
    command("mmstats", "ls")
    failures += check(client, victim, server)
    say("What was the dead worker doing, and what killed it?")
    command("mmdebug", "postmortem", str(victim))
    failures += check_report(mmdebug.load(file_of(victim)))
    for failure in failures:
        print(f"WRONG: {failure}", file=sys.stderr)
    say("It does not add up." if failures else f"It adds up: {client.answers.total()} requests, none lost.")
    return 1 if failures else 0


def settled(snapshot: mmstats.Snapshot) -> bool:
    """Whether a worker has lived for two seconds, by its heartbeat."""
    return bool(snapshot.heartbeat and snapshot.created and snapshot.heartbeat - snapshot.created > 2e9)


def ask(pid: int) -> list[str]:
    """Ask a live worker for a value and for its stacks; returns what is wrong with the answers."""
    say(f"Worker {pid} is in the middle of a slow request. How many orders has it had? Ask it:")
    failures = []
    answer, sold = told_by("mmdebug", "eval", str(pid), "len(orders)").strip(), mmstats.read(file_of(pid))["items_sold"]
    if answer != str(sold.value):
        failures.append(f"the live worker answered {answer!r}, and its stats say {sold.value}")
    say("What are its threads and greenlets doing?")
    stacks = told_by("mmdebug", "stacks", str(pid))
    if "respond  time.sleep(" not in stacks:
        failures.append("the greenlet that waits in the slow request is not among its stacks")
    return failures


def ask_while_blocked(client: Client) -> list[str]:
    """Attach to a worker whose hub does not answer, and end what blocks it; returns what is wrong."""
    blocking = threading.Thread(target=client.send, args=(("GET", "/rebuild"),))
    blocking.start()
    pid = wait_for(lambda: at("GET /rebuild"), "a worker that is blocked").process.pid
    say(f"Now a loop blocks the hub of worker {pid}: none of its requests gets on. mmdebug does, and ends the loop:")
    answer = told_by("mmdebug", "eval", str(pid), "index.cancel()")
    blocking.join(15)
    print(f"the loop has ended, and the request was answered: {not blocking.is_alive()}")
    failures = []
    if "Index.rebuild" not in answer.partition("\ngreenlet ")[0]:
        failures.append("the stacks before the answer don't show the loop that blocks the hub")
    if answer.split()[-1] != "True":
        failures.append("the worker with the blocked hub did not answer")
    if blocking.is_alive():
        failures.append("what was run in the blocked worker did not end the loop")
    return failures


def at(route: str) -> mmstats.Snapshot | None:
    """The worker whose last request is this one, and in the midst of it."""
    for snapshot in workers():
        if snapshot["in_flight"].value and snapshot["last_route"].value == route:
            return snapshot
    return None


def file_of(pid: int) -> str:
    return next(snapshot.path for snapshot in mmstats.read_all(service="shop").values() if snapshot.process.pid == pid)


def check_report(found: mmdebug.PostMortem) -> list[str]:
    """What the post-mortem must tell; returns what it does not."""
    failures = []
    first = found.verdict.causes[0]
    if (first.name, first.confidence) != ("killed", "certain"):
        failures.append(f"the worker was killed by SIGKILL, and the report says {first.name}, {first.confidence}")
    if [activity.name for activity in found.activities] != ["GET /report"]:
        failures.append("the request that the worker was in the middle of is not the one in flight in its report")
    if not any(event.name == "report.begun" for event in found.events):
        failures.append("the last event of the worker is missing")
    return failures


def check(client: Client, victim: int, server: subprocess.Popen[bytes]) -> list[str]:
    """Compare what was sent with what living and dead workers counted; returns what does not fit."""
    say("Do the counters of the dead and the living add up to what was sent?")
    fleet = mmstats.read_all(service="shop")
    counted = {labels: value.value for labels, value in fleet.merge()["requests"].items()}
    by_dead = mmstats.read(file_of(victim))
    failures = []
    for key in sorted(client.answers | collections.Counter(counted)):
        sent, found = client.answers[key], counted.get(key, 0)
        dead = by_dead["requests"].get(key)
        print(f"  {key[0]:4} {key[1]}: answered {sent:3}, counted {found:3}"
              f" ({dead.value if dead is not None else 0} of them by the dead worker)")  # fmt: skip
        if sent != found:
            failures.append(f"{key}: {sent} were answered and {found} counted")
    if client.cut_off != 1 or by_dead["in_flight"].value != 1:
        failures.append("the request that was cut off is not the one that the dead worker was in the middle of")
    if by_dead.process.state != "died":
        failures.append(f"the killed worker is told to have {by_dead.process.state}")

    # A gevent worker of gunicorn's may miss SIGTERM in its first second; it would be killed 30 s later.
    wait_for(lambda: all(settled(snapshot) for snapshot in workers()), "the new worker to settle")
    server.send_signal(signal.SIGTERM)
    server.wait(timeout=20)
    ended = collections.Counter(snapshot.process.state for snapshot in mmstats.read_all(service="shop").values())
    print(f"  after gunicorn's end: {ended['died']} worker died, {ended['closed']} closed cleanly")
    if ended != {"died": 1, "closed": 2}:
        failures.append(f"one worker was killed and two ended cleanly, but their files say {dict(ended)}")
    return failures


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
