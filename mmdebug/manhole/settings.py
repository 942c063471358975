"""What a manhole may do, and how much: the arguments of `install`, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmstats.errors import ConfigurationError

#: Where code can be told to run; `auto` is what suits the process.
PLACES = ("auto", "app", "main", "native")


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `install`.

    service, path: as of ``mmdebug.install()``: the name under which the process is found, and its files' directory
    namespace: names that each session has from its start
    read_only: answer questions (stacks, stats, events), and evaluate nothing
    authorize: asked before a client gets in and before each request, with an `Access`. Only True lets it: all
        else, an exception, or no answer within a second denies. It is called in a native thread
    timeout: seconds that a command may take if its client gives no limit; None for any time
    idle_timeout: seconds after which a client that asks for nothing is sent away; None for never
    max_clients: how many there can be at once
    max_output: bytes that one command may print; the rest is counted and dropped
    max_result: bytes of text that one result may have
    where: where code runs if its client gives no place: ``auto``, ``app``, ``main`` or ``native``
    signal: a signal, by number or name; the manhole opens when it comes, and not before
    """

    service: str | None = None
    path: str | None = None
    namespace: Mapping[str, Any] = field(default_factory=dict)
    read_only: bool = False
    authorize: Callable[[Any], Any] | None = None
    timeout: float | None = 30.0
    idle_timeout: float | None = 1800.0
    max_clients: int = 16
    max_output: int = 1 << 20
    max_result: int = 1 << 16
    where: str = "auto"
    signal: int | str | None = None

    def __post_init__(self) -> None:
        if self.where not in PLACES:
            raise ConfigurationError(f"where={self.where!r}: use one of {', '.join(PLACES)}")
        if self.authorize is not None and not callable(self.authorize):
            raise ConfigurationError("authorize= takes a function of one argument")
        if not isinstance(self.namespace, Mapping) or not all(type(name) is str for name in self.namespace):
            raise ConfigurationError("namespace= takes a dict of names")
        for name in ("timeout", "idle_timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not (_is_number(seconds) and 0 < seconds < 1e9):
                raise ConfigurationError(f"{name}={seconds!r}: give a number of seconds, or None")
        for name, least, most in (("max_clients", 1, 1000), ("max_output", 0, 1 << 30), ("max_result", 256, 8 << 20)):
            number = getattr(self, name)
            if type(number) is not int or not least <= number <= most:
                raise ConfigurationError(f"{name}={number!r}: give a whole number from {least} to {most}")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and value == value
