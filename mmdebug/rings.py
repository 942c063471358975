# cython: language_level=3, annotation_typing=False, binding=False
"""Events and activities as a program writes them on its hot paths.

Like `mmstats.cells`: written in Cython's pure Python mode, compiled with `rings.pxd` where there is
a compiler. A `Ring` keeps the newest records of any length; `Slots` keep what is in progress. What
goes where is in ``docs/format.md``.

Each update packs its record first. Then it runs from its first store into the file to its last one
without calling anything, so that no other thread, signal handler or GC callback can come in between.
"""

from __future__ import annotations

from typing import Any

from .layout import (
    BOOL,
    CUT,
    EVENT,
    FLOAT,
    HEAD,
    INTEGER,
    LOG,
    MAX_KEY,
    MAX_NAME,
    MAX_RECORD,
    MAX_TEXT,
    NONE,
    NOTE,
    RECORD_HEAD,
    SAMPLE,
    SLOT_HEAD,
    TEXT,
)

try:
    import cython
except ImportError:
    from mmstats import _nocython as cython

if not cython.compiled:
    from typing import TYPE_CHECKING

    from mmdebug._packing import fits, plain, put, put_double, put_head, put_word, thread_ident
    from mmstats import _nocython as cython
    from mmstats._words import bytes_at, utf8, utf8_size, wall_ns, wrap
    from mmstats.cells import Cell

    if TYPE_CHECKING:
        from mmstats._words import copy, fence

#: Whether this module runs as C.
COMPILED: bool = bool(cython.compiled)

#: Compiled, records are packed here: nothing that runs between packing and storing lets others in.
_SCRATCH_BUFFER: Any = bytearray(MAX_RECORD + MAX_NAME)
_SCRATCH = cython.NULL
if cython.compiled:
    _SCRATCH = bytes_at(memoryview(_SCRATCH_BUFFER), 0)

#: What `Recorder._pack` returns for fields that it does not take as they are.
REFUSED = 0

#: The low half of a word.
_LOW = 0xFFFFFFFF

#: What tells greenlets and tasks apart: functions, or None where there are none.
_greenlet: Any = None
_loop: Any = None
_task: Any = None


def set_contexts(greenlet: Any, loop: Any, task: Any) -> None:
    """Have records say which greenlet or asyncio task they are of.

    greenlet: returns the current one; loop: the running event loop or None; task: a loop's current one
    """
    global _greenlet, _loop, _task
    _greenlet, _loop, _task = greenlet, loop, task


def context() -> int:
    """The `id` of the current task or greenlet; 0 if there is neither."""
    if _loop is not None:
        loop = _loop()
        if loop is not None:
            task = _task(loop)
            if task is not None:
                return id(task)
    if _greenlet is not None:
        return id(_greenlet())
    return 0


def here() -> tuple[int, int]:
    """The current thread, as `threading.get_ident` numbers it, and the `id` of the current task or greenlet."""
    return thread_ident(), context()


@cython.locals(size="Py_ssize_t", length="Py_ssize_t", cut="bint")
def pack_text(target: Any, at: int, key: str, value: str, most: int) -> int:
    """Pack a text of at most `most` bytes; returns where it ends, negative if it was cut."""
    size = utf8_size(value, 0x7FFFFFFF)
    cut = size > most
    if cut:
        size = utf8_size(value, most)
    length = utf8_size(key, MAX_KEY)
    put_head(target, at, TEXT | CUT if cut else TEXT, length, size)
    put(target, at + 4, utf8(key, length), length)
    put(target, at + 4 + length, utf8(value, size), size)
    at = at + 4 + length + size
    return -at if cut else at


class Ring(Cell):
    """The newest records, each of its own length; the oldest are overwritten."""

    def __init__(self, owner: Any, series: Any, capacity: int) -> None:
        Cell.__init__(self, owner, series)
        self._capacity = capacity

    def reset(self) -> None:
        self._w[2] = self._capacity

    @cython.locals(w="uint64_t *", b="char *", source="char *", head="uint64_t", tail="uint64_t", after="uint64_t",
                   start="uint64_t", pad="uint64_t", step="uint64_t", capacity="uint64_t")  # fmt: skip
    def append(self, source: Any, size: int) -> None:
        """Add a packed record; `size` is a multiple of 8 and at most a quarter of the capacity."""
        if not self._ready():
            self._wake()
        w = self._w
        b = self._b
        capacity = self._capacity
        if not cython.compiled:
            source = bytes(source[:size])
        while True:
            head = w[0]
            tail = w[1]
            start = head % capacity
            pad = capacity - start if start + size > capacity else 0
            after = head + pad + size
            if tail > head or head - tail > capacity:
                tail = head  # somebody wrote into our memory: begin afresh
            while after - tail > capacity:
                step = w[8 + (tail % capacity >> 3)] & _LOW
                if step < 8 or step & 7 or step > capacity:
                    step = after - tail - size  # as above
                tail = tail + step
            # Uncompiled, another thread may have come in.
            if w[0] == head:
                break
        w[1] = tail
        if cython.compiled:
            fence()
        if pad:
            w[8 + (start >> 3)] = pad
            start = 0
        w[3] = w[3] + 1
        if cython.compiled:
            copy(b + 64 + start, source, size)
            fence()
        else:
            b[64 + start : 64 + start + size] = source
        w[0] = after


class Slots(Cell):
    """What is in progress: a slot for each activity, taken at its start and given back at its end."""

    def __init__(self, owner: Any, series: Any, count: int, size: int) -> None:
        Cell.__init__(self, owner, series)
        self._count = count
        self._size = size
        self._epoch = 0
        self._number = 0
        self._free: list[int] = []

    def forget(self) -> None:
        # What was in progress in a parent is not in progress here.
        self._epoch = self._epoch + 1
        self._free = list(range(self._count - 1, -1, -1))

    def reset(self) -> None:
        self._w[0] = self._count
        self._w[1] = self._size

    @cython.locals(w="uint64_t *", b="char *", source="char *", number="uint64_t", now="uint64_t", flags="uint64_t",
                   slot="Py_ssize_t",
                   at="Py_ssize_t", word="Py_ssize_t")  # fmt: skip
    def enter(self, source: Any, size: int, thread: int, where: int, cut: bool) -> int:
        """Take a slot for a packed activity; -1 if all are taken."""
        if not self._ready():
            self._wake()
        w = self._w
        b = self._b
        if not self._free:
            w[2] = w[2] + 1
            return -1
        if not cython.compiled:
            source = bytes(source[:size])
        slot = self._free.pop()
        now = wall_ns()
        number = self._number + 1
        self._number = number
        at = HEAD + slot * self._size
        word = at >> 3
        w[word] = number
        if cython.compiled:
            fence()
        w[word + 2] = now
        w[word + 3] = thread
        w[word + 4] = where
        flags = 1 if cut else 0
        w[word + 5] = size | (flags << 32)
        if cython.compiled:
            copy(b + at + 48, source, size)
            fence()
        else:
            b[at + 48 : at + 48 + size] = source
        w[word + 1] = number
        return slot

    @cython.locals(w="uint64_t *")
    def leave(self, slot: int, epoch: int) -> None:
        """Give a slot back, unless it was taken before a fork."""
        if epoch == self._epoch and self._ready():
            w = self._w
            w[((HEAD + slot * self._size) >> 3) + 1] = 0
            self._free.append(slot)


class Activity:
    """What `Recorder.activity` returns: a context manager and decorator.

    One that is entered again while it is in progress stays the one that it is until its last end.
    """

    def __init__(self) -> None:
        self._recorder: Any = None
        self._name = ""
        self._fields: Any = None
        self._slot = -1
        self._epoch = 0
        self._again = 0

    def __enter__(self) -> Activity:
        if self._recorder is not None and self._recorder._on:
            try:
                self._recorder.begin(self)
            except Exception:  # no memory or stack is left, say: the program is worth more than its record
                pass
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._slot >= 0 and self._recorder is not None:
            try:
                self._recorder.end(self)
            except Exception:  # as above
                pass

    def __call__(self, function: Any) -> Any:
        """Have each call of `function` be an activity of its own."""
        from mmstats.decorators import inside

        recorder, name, fields = self._recorder, self._name, self._fields
        return inside(lambda: make_activity(recorder, name, fields), function)


@cython.locals(made="Activity")
def make_activity(recorder: Any, name: Any, fields: Any) -> Activity:
    made = Activity.__new__(Activity)
    made._recorder = recorder
    made._name = name
    made._fields = fields
    made._slot = -1
    made._epoch = 0
    made._again = 0
    return made


class Recorder:
    """The verbs of the hot paths: `event`, `activity`, `log`. They do nothing until `switch_on`.

    sanitizer: makes of names and fields what holds no secret and can be packed, and remembers in its
        `keys`, `texts` and `templates` what can be taken as it is; see `mmdebug.sanitize`
    """

    def __init__(self, sanitizer: Any) -> None:
        self._on = False
        self._sanitizer = sanitizer
        self.keys: dict[str, bool] = sanitizer.keys
        self.texts: dict[str, bool] = sanitizer.texts
        self.templates: dict[str, bool] = sanitizer.templates
        self._debug: Any = None
        self._info: Any = None
        self._warning: Any = None
        self._error: Any = None
        self._samples: Any = None
        self._slots: Any = None
        self._logs: Any = None
        self._standard = 0

    def switch_on(self, rings: Any, samples: Any, slots: Any) -> None:
        """Record into `rings`, one for each severity from debug to error, and into `slots`."""
        self._debug, self._info, self._warning, self._error = rings
        self._samples = samples
        self._slots = slots
        self._on = True

    def switch_off(self) -> None:
        self._on = False

    @property
    def on(self) -> bool:
        return self._on

    def set_logs(self, logs: Any, standard: int) -> None:
        """What `log` asks about records that are not plain; `standard` is how many attributes a plain one has."""
        self._logs = logs
        self._standard = standard

    def _plain(self, text: Any) -> bool:
        return type(text) is str and (plain(text) or text in self.texts)

    @cython.locals(key=str, end="Py_ssize_t", length="Py_ssize_t", cut="bint")
    def _pack(self, target: Any, at: int, limit: int, fields: Any, cleaned: bool) -> int:
        """Pack `fields`; returns where they end, negative if some did not fit.

        `REFUSED` if something in them has to be cleaned first. Calls no Python code.
        """
        cut = False
        for name, value in fields.items():
            if type(name) is not str:
                return REFUSED
            key = name
            if not cleaned and key not in self.keys:
                return REFUSED
            kind = type(value)
            length = utf8_size(key, MAX_KEY)
            if kind is str:
                if not (cleaned or plain(value) or value in self.texts):
                    return REFUSED
                if at + 4 + length + 16 > limit:
                    cut = True
                    break
                end = limit - at - 4 - length
                end = pack_text(target, at, key, value, end if end < MAX_TEXT else MAX_TEXT)
                if end < 0:
                    cut = True
                    end = -end
                at = end
                continue
            if at + 4 + length + 8 > limit:
                cut = True
                break
            put(target, at + 4, utf8(key, length), length)
            end = at + 4 + length
            if kind is int:
                if not fits(value):
                    return REFUSED
                put_head(target, at, INTEGER, length, 8)
                put_word(target, end, wrap(value, 64, False))
                end += 8
            elif kind is float:
                put_head(target, at, FLOAT, length, 8)
                put_double(target, end, value)
                end += 8
            elif kind is bool:
                put_head(target, at, BOOL, length, 8)
                put_word(target, end, 1 if value else 0)
                end += 8
            elif value is None:
                put_head(target, at, NONE, length, 0)
            else:
                return REFUSED
            at = end
        return -at if cut else at

    def event(self, name: str, /, **fields: Any) -> None:
        """Note that something happened, with any fields; ``severity=`` is debug, info, warning or error."""
        try:
            if self._on and not (self._plain(name) and self._write(self._info, EVENT, name, fields, False)):
                # "severity" is not among the known keys, so it always comes here.
                ring = self._ring(fields.pop("severity", "info"))
                name, fields = self._sanitizer.event(name, fields)
                self._write(ring, EVENT, name, fields, True)
        except Exception:  # no memory or stack is left, say: the program is worth more than its record
            pass

    def note(self, name: str, severity: str, fields: dict[str, Any]) -> None:
        """An event of the recorder's own."""
        try:
            if self._on:
                name, fields = self._sanitizer.event(name, fields)
                self._write(self._ring(severity), NOTE, name, fields, True)
        except Exception:  # as above
            pass

    def sample(self, fields: dict[str, Any]) -> None:
        """What the sampler saw; its keys and texts are the recorder's own."""
        if self._on:
            self._write(self._samples, SAMPLE, "", fields, True)

    def _ring(self, severity: Any) -> Any:
        if type(severity) is not str:  # comparing it would call the program's code
            return self._info
        if severity == "warning":
            return self._warning
        if severity == "error" or severity == "critical":
            return self._error
        return self._debug if severity == "debug" else self._info

    @cython.locals(target="char *", at="Py_ssize_t", cut="bint", end="Py_ssize_t", thread="uint64_t", where="uint64_t")
    def _write(self, ring: Any, kind: int, name: Any, fields: Any, cleaned: bool) -> bool:
        """Add a record; False, and nothing is added, if `fields` have to be cleaned first."""
        where = context()
        thread = thread_ident()
        if not ring._ready():
            ring._wake()
        # Compiled, no Python code runs from here on.
        if cython.compiled:
            target = _SCRATCH
        else:
            target = bytearray(MAX_RECORD + MAX_NAME)
        end = pack_text(target, RECORD_HEAD, "", name, MAX_NAME)
        cut = end < 0
        at = -end if cut else end
        end = self._pack(target, at, MAX_RECORD - 8, fields, cleaned)
        if end == REFUSED:
            return False
        if end < 0:
            cut = True
            end = -end
        self._finish(ring, target, kind, end, cut, thread, where)
        return True

    @cython.locals(size="Py_ssize_t")
    def _finish(self, ring: Any, target: Any, kind: int, end: int, cut: bool, thread: int, where: int) -> None:
        size = (end + 7) & ~7
        put_word(target, end, 0)
        if cut:
            kind |= 256
        put_word(target, 0, size | (kind << 32))
        put_word(target, 8, wall_ns())
        put_word(target, 16, thread)
        put_word(target, 24, where)
        ring.append(target, size)

    def activity(self, name: str, /, **fields: Any) -> Activity:
        """A context manager or decorator: what is inside is in progress, and is seen after a death."""
        return make_activity(self, name, fields)

    @cython.locals(activity="Activity", slots="Slots", target="char *", at="Py_ssize_t", end="Py_ssize_t", cut="bint",
                   limit="Py_ssize_t", cleaned="bint", thread="uint64_t", where="uint64_t")  # fmt: skip
    def begin(self, activity: Any) -> int:
        name = activity._name
        cleaned = not self._plain(name)
        if cleaned:
            name, activity._fields = self._sanitizer.event(name, activity._fields)
        where = context()
        thread = thread_ident()
        slots = self._slots
        if not slots._ready():
            slots._wake()
        if activity._slot >= 0 and activity._epoch == slots._epoch:
            activity._again = activity._again + 1
            return 0
        limit = slots._size - SLOT_HEAD
        # Compiled, no Python code runs from here on.
        if cython.compiled:
            target = _SCRATCH
        else:
            target = bytearray(MAX_RECORD)
        end = pack_text(target, 0, "", name, limit - 8)
        cut = end < 0
        at = -end if cut else end
        end = self._pack(target, at, limit, activity._fields, cleaned)
        if end == REFUSED:
            _, activity._fields = self._sanitizer.event("", activity._fields)
            if cython.compiled:  # others may have packed meanwhile
                pack_text(target, 0, "", name, limit - 8)
            end = self._pack(target, at, limit, activity._fields, True)
        if end < 0:
            cut = True
            end = -end
        activity._slot = slots.enter(target, end, thread, where, cut)
        activity._epoch = slots._epoch
        activity._again = 0
        return 0

    @cython.locals(activity="Activity", slots="Slots", slot="Py_ssize_t")
    def end(self, activity: Any) -> int:
        if activity._again > 0:
            activity._again = activity._again - 1
            return 0
        slots = self._slots
        slot = activity._slot
        activity._slot = -1
        if slots is not None:
            slots.leave(slot, activity._epoch)
        return 0

    def log(self, record: Any) -> None:
        """Note a log record. This is a handler's ``handle``: it takes no lock."""
        if self._on:
            try:
                self._log(record)
            except Exception:  # as in `event`; also what is no log record
                pass

    @cython.locals(ring="Ring", target="char *", at="Py_ssize_t", cut="bint", end="Py_ssize_t", level="Py_ssize_t",
                   thread="uint64_t", where="uint64_t", attributes=dict)  # fmt: skip
    def _log(self, record: Any) -> None:
        attributes = record.__dict__
        message = attributes.get("msg")
        extras = None
        if (
            # What a formatter before us has left in it is not the program's.
            len(attributes) - ("message" in attributes) - ("asctime" in attributes) == self._standard
            and not attributes.get("exc_info", True)
            and type(message) is str
            and message in self.templates
            and self._arguments(attributes.get("args"))
        ):
            if attributes.get("args"):
                try:
                    message = message % attributes["args"]
                except Exception:  # they don't fit it
                    message, extras = self._logs(record)
        else:
            message, extras = self._logs(record)
        logger = attributes.get("name")
        place = attributes.get("filename")
        function = attributes.get("funcName")
        if not (self._plain(logger) and self._plain(place) and self._plain(function)):
            logger, place = self._sanitizer.text(logger), self._sanitizer.text(place)
            function = self._sanitizer.text(function)
        severity = attributes.get("levelno")
        level = 20  # logging.INFO, for one that has none
        if isinstance(severity, int) and fits(severity):
            level = severity
        line = attributes.get("lineno")
        if type(line) is not int or not fits(line):
            line = 0
        if level >= 40:
            ring = self._error
        elif level >= 30:
            ring = self._warning
        elif level >= 20:
            ring = self._info
        else:
            ring = self._debug
        where = context()
        thread = thread_ident()
        if not ring._ready():
            ring._wake()
        # Compiled, no Python code runs from here on.
        if cython.compiled:
            target = _SCRATCH
        else:
            target = bytearray(MAX_RECORD + MAX_NAME)
        end = pack_text(target, RECORD_HEAD, "", message, MAX_NAME)
        cut = end < 0
        at = -end if cut else end
        at = abs(pack_text(target, at, "", logger, 128))
        at = abs(pack_text(target, at, "", place, 128))
        put_head(target, at, INTEGER, 0, 8)
        put_word(target, at + 4, wrap(line, 64, False))
        at = abs(pack_text(target, at + 12, "", function, 128))
        end = at
        if extras:
            end = self._pack(target, at, MAX_RECORD - 8, extras, True)
            if end < 0:
                cut = True
                end = -end
        self._finish(ring, target, LOG, end, cut, thread, where)

    def _arguments(self, arguments: Any) -> bool:
        """Whether a log record's arguments are plain, each by itself."""
        if type(arguments) is not tuple:
            return not arguments
        for value in arguments:
            kind = type(value)
            if kind is str:
                if not plain(value):
                    return False
            elif kind is not int and kind is not float and kind is not bool and value is not None:
                return False
        return True
