"""Run code in a live process for a command, and print what came of it."""

from __future__ import annotations

import argparse
import io
from typing import TYPE_CHECKING, Any

from mmdebug.errors import ConnectionLost, ProtocolError, RemoteError
from mmdebug.escape import clean
from mmstats.commands import text
from mmstats.commands.console import Console
from mmstats.errors import MmStatsError

from . import reaching

if TYPE_CHECKING:
    from mmdebug.client.data import Result


def run_code(options: argparse.Namespace, console: Console, code: str, mode: str) -> int:
    """Run it there; with --json one object is printed in any case.

    What failed on the way there, or back, is raised as well, to be said as it is without --json.
    """
    from mmdebug.client.printed import Printed

    command = options.command
    asked = False
    try:
        with reaching.reached(options) as found:
            printed = Printed()
            asked = True
            try:
                result = found.connection.execute(
                    code,
                    mode=mode,
                    where=options.where,
                    value=options.json,
                    on_stream=None if options.json else printed,
                    on_started=reaching.started,
                    **reaching.limit_of(options),
                )
            finally:
                printed.end()
    except RemoteError as error:
        if not options.json:
            raise
        console.json(command, {"ok": False, **_failed(error)})
        return reaching.INTERRUPTED if error.kind == "interrupted" else reaching.FAILED
    except (MmStatsError, KeyboardInterrupt) as error:
        unanswered = _unanswered(error, asked)
        if options.json:
            console.json(command, {"ok": False, **_failed(unanswered)})
        if unanswered.kind == "interrupted":
            reaching.say(unanswered.message)
        raise
    if options.json:
        console.json(command, {"ok": True, **_done(result)})
    else:
        _show(console, result)
    return 0


def _show(console: Console, result: Result) -> None:
    if result.text:
        console.line(clean(result.text))
    if result.cut:
        items = f": {result.shown:,} of {result.total:,} items" if result.shown and result.total else ""
        reaching.say(f"not all of it is shown{items}")
    if result.dropped:
        reaching.say(f"{text.size(result.dropped)} of what it printed were over the limit, and are lost")


def _done(result: Result) -> dict[str, Any]:
    told: dict[str, Any] = {
        "text": result.text,
        "type": result.type,
        "cut": result.cut,
        "where": result.where,
        "reason": result.reason,
        "seconds": result.seconds,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "dropped": result.dropped,
    }
    if result.has_value:
        return {"value": result.value, **told}
    if result.arrow and (frame := result.frame) is not None:
        written = io.StringIO()
        frame.to_csv(written, index=False)
        return {"csv": written.getvalue(), **told}
    return {**told, "value_problem": result.value_problem} if result.value_problem else told


def _unanswered(error: BaseException, asked: bool) -> RemoteError:
    """What kept the answer from coming, in the shape of what fails there. `asked`: whether the code was sent."""
    if not isinstance(error, MmStatsError):
        told = "not waited for any longer: it may go on there" if asked else "it was not run"
        return RemoteError(told, "interrupted")
    kind = "lost" if isinstance(error, ConnectionLost) else "protocol" if isinstance(error, ProtocolError) else "attach"
    return RemoteError(getattr(error, "message", str(error)), kind)


def _failed(error: RemoteError) -> dict[str, Any]:
    return {
        "error": {
            "kind": error.kind,
            "name": error.name,
            "message": error.message,
            "traceback": list(error.traceback),
            "advice": error.advice,
            "stuck": error.stuck,
        },
        "where": error.where,
        "seconds": error.seconds,
        "stdout": error.stdout,
        "stderr": error.stderr,
    }
