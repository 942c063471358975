"""What a process prints while it is asked, printed here."""

from __future__ import annotations

import sys

from ..escape import Stream


class Printed:
    """Each piece on its stream, escaped."""

    def __init__(self) -> None:
        self._streams = {"stdout": (Stream(), sys.stdout), "stderr": (Stream(), sys.stderr)}

    def __call__(self, name: str, came: str) -> None:
        cleaner, stream = self._streams[name]
        stream.write(cleaner.feed(came))
        stream.flush()

    def end(self) -> None:
        """Nothing more comes."""
        for cleaner, stream in self._streams.values():
            stream.write(cleaner.end())
            stream.flush()
