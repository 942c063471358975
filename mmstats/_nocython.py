"""Stands in for the `cython` module where Cython is not installed and `cells` is not compiled."""

from __future__ import annotations

from typing import Any

compiled = False
NULL = None


def locals(**types: Any) -> Any:
    """The decorator that gives C types to local variables; here it does nothing."""

    def decorate(function: Any) -> Any:
        return function

    return decorate
