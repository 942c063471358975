"""Functions for the main thread to call between two of its instructions, and exceptions for other threads. By ctypes.

`PyThreadState_SetAsyncExc` can't hit one greenlet of the main thread and spare the next one: from asking for an
exception until it is raised the thread may have switched. A pending call looks first, in the main thread itself,
and raises then and there.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable


class Interrupted(BaseException):
    """A client's code was told to end."""

    __module__ = "mmdebug"


class _Calls:
    """`PyObject_IsTrue` asks for its truth, in the main thread; what that raises goes on in the code that ran there."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()

    def __bool__(self) -> bool:
        try:
            function = self.waiting.popleft()
        except IndexError:
            return False
        function()
        return False  # so is true of C's 0: that all went well


_calls = _Calls()
_api = ctypes.pythonapi
_api.Py_IncRef(ctypes.py_object(_calls))  # Python may ask for it while it takes the modules down

_add = _api.Py_AddPendingCall
_add.argtypes = [ctypes.c_void_p, ctypes.py_object]
_add.restype = ctypes.c_int
_ask = ctypes.cast(_api.PyObject_IsTrue, ctypes.c_void_p)

_set_exception = _api.PyThreadState_SetAsyncExc
_set_exception.argtypes = [ctypes.c_ulong, ctypes.c_void_p]
_set_exception.restype = ctypes.c_int


def call_in_main(function: Callable[[], None]) -> bool:
    """Have the main thread call `function` as soon as it runs Python code; False if too much waits for that already.

    What `function` raises, the code that runs there gets. No other such call comes while it runs.
    """
    _calls.waiting.append(function)
    if _add(_ask, _calls) == 0:
        return True
    try:
        _calls.waiting.remove(function)
    except ValueError:  # an earlier call took it
        return True
    return False


def raise_in(ident: int) -> None:
    """Have `Interrupted` raised in a thread, wherever it is then; who calls sees to it that this is right."""
    _set_exception(ident, id(Interrupted))


def take_back(ident: int) -> None:
    """Nothing is raised in this thread that has not been yet."""
    _set_exception(ident, None)
