"""A client's ``await``, so that to end it ends nothing of the program's.

asyncio cancels a task by cancelling what it awaits, and that may be a task or a future of the program.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any

from ..stacks import tasks
from ..stacks.walking import Alike
from .output import Output, owner_of


class Apart:
    """Made when a command begins, in its task."""

    def __init__(self, output: Output) -> None:
        self._output = output
        # Before 3.12 a task does not tell the context in which it was made.
        self._before = frozenset(tasks.Looker(Alike()).known()) if sys.version_info < (3, 12) else frozenset()

    @types.coroutine
    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Awaits `coroutine`; when its task is cancelled, the futures of others that it awaits are not."""
        error: BaseException | None = None
        while True:
            try:
                awaited = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            stands_for = self._stand_in(coroutine, awaited)
            try:
                yield awaited if stands_for is None else stands_for
            except BaseException as raised:
                error = raised.with_traceback(None)
                if stands_for is not None and hasattr(awaited, "_children"):
                    self._cancel_own_children(awaited)

    def _stand_in(self, coroutine: Any, awaited: Any) -> Any:
        """A future that is done when `awaited` is, and can be cancelled alone; None if that one may be."""
        asyncio: Any = sys.modules["asyncio"]
        if not getattr(awaited, "_asyncio_future_blocking", False) or not asyncio.isfuture(awaited):
            return None
        children = getattr(awaited, "_children", None)
        if isinstance(awaited, asyncio.Task):
            spared = not self._is_own(awaited)
        elif type(children) is list:
            spared = not all(self._is_own(child) for child in children)
        else:
            spared = _is_the_clients(coroutine)  # those of locks and queues are made for who awaits them
        if not spared:
            return None
        found = awaited.get_loop().create_future()

        def done(_: object) -> None:
            if not found.done():
                found.set_result(None)

        # What ``await`` has agreed upon with a task: it is now the other one that this waits for.
        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(done)
        found._asyncio_future_blocking = True
        found.add_done_callback(lambda _: awaited.remove_done_callback(done))
        return found

    def _is_own(self, task: Any) -> bool:
        """Whether this command has made a task."""
        context = getattr(task, "get_context", None)
        if context is not None:
            return owner_of(context()) is self._output
        return isinstance(task, sys.modules["asyncio"].Task) and not any(one() is task for one in self._before)

    def _cancel_own_children(self, awaited: Any) -> None:
        """Of several that were gathered."""
        awaited.add_done_callback(_retrieve)
        for child in awaited._children:
            if self._is_own(child):
                child.cancel()


def _retrieve(future: Any) -> None:
    """So that nobody complains that nobody did."""
    if not future.cancelled():
        future.exception()


def _is_the_clients(coroutine: Any) -> bool:
    """Whether the innermost coroutine, which awaits, is of a client's own code."""
    inner = coroutine
    while type(getattr(inner, "cr_await", None)) is types.CoroutineType:
        inner = inner.cr_await
    code = getattr(inner, "cr_code", None)
    return code is not None and code.co_filename.startswith("<mmdebug ")


def _behind(generator: Any) -> Any:
    return generator.gi_frame.f_locals["coroutine"]


tasks.BEHIND[id(Apart.run.__code__)] = _behind
