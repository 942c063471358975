"""A session without a connection, for programs that tests run: it asks the executor what a client would ask."""

from __future__ import annotations

import json
import time
from typing import Any

from mmdebug import native
from mmdebug.manhole.execution import Executor, Request
from mmdebug.manhole.settings import Settings
from mmdebug.stacks import Stacks


class Prompt:
    """Asks, and waits natively for the final answer: to be used in a native thread, or where nothing is patched."""

    def __init__(self, namespace: dict[str, Any] | None = None, **settings: Any) -> None:
        self.namespace = namespace if namespace is not None else {"__name__": "__mmdebug__"}
        self.executor = Executor(self.namespace, Settings(**settings), self._wake, self._stacks)
        self.frames: list[tuple[dict[str, Any], bytes]] = []
        self.wakes = 0
        self._number = 0
        self._sleep = native.original("time", "sleep")

    def _wake(self) -> None:
        self.wakes += 1

    def _stacks(self) -> Stacks:
        return Stacks(1, 2, 0.0, ())

    def submit(self, code: str = "", kind: str = "exec", **fields: Any) -> int:
        self._number += 1
        self.executor.submit(Request(self._number, kind, code, **fields))
        return self._number

    def step(self) -> None:
        """What a session does when it is woken, or it is time."""
        self.executor.tick()
        self.frames += self.executor.outgoing()

    def until(self, condition: Any, seconds: float = 20.0) -> Any:
        deadline = time.monotonic() + seconds
        turn = 0
        while True:
            turn += 1
            self.step()
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s; {self.frames!r:.2000}")
            self._sleep(0.001 if turn > 50 else 0)

    def final(self, number: int) -> dict[str, Any]:
        """The final answer of a request, with its body under ``body``."""

        def found() -> dict[str, Any] | None:
            for message, body in self.frames:
                if message["id"] == number and message["type"] not in ("started", "stream"):
                    return {**message, "body": body}
            return None

        return self.until(found)  # type: ignore[no-any-return]

    def ask(self, code: str = "", kind: str = "exec", **fields: Any) -> dict[str, Any]:
        """The final answer, with what came before: ``started``, ``stdout`` and ``stderr``."""
        number = self.submit(code, kind, **fields)
        answer = self.final(number)
        mine = [(message, body) for message, body in self.frames if message["id"] == number]
        answer["started"] = [message for message, _ in mine if message["type"] == "started"]
        for name in ("stdout", "stderr"):
            answer[name] = "".join([m["text"] for m, _ in mine if m["type"] == "stream" and m["name"] == name])
        json.dumps(answer, default=bytes.hex)
        return answer

    def text(self, code: str, **fields: Any) -> str:
        """The text of a result."""
        answer = self.ask(code, **fields)
        assert answer["type"] == "result", answer
        return answer["data"].get("text/plain", "")  # type: ignore[no-any-return]

    def close(self) -> None:
        self.executor.close()

    def __enter__(self) -> Prompt:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
