"""Functions that are recorded at each of their calls.

Not compiled: what a decorator returns must be a real function, or it would be no method of a class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

#: What marks the code of an ``async def`` (``inspect.CO_COROUTINE``; to import inspect takes long).
_COROUTINE = 0x80


def inside(context: Callable[[], Any], function: Function) -> Function:
    """`function` with each of its calls inside of a fresh ``context()``.

    An ``async def`` is inside for as long as it is awaited.
    """
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _COROUTINE:

        @wraps(function)
        async def awaited(*args: Any, **keywords: Any) -> Any:
            with context():
                return await function(*args, **keywords)

        return awaited  # type: ignore[return-value]

    @wraps(function)
    def called(*args: Any, **keywords: Any) -> Any:
        with context():
            return function(*args, **keywords)

    return called  # type: ignore[return-value]
