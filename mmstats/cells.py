# cython: language_level=3, annotation_typing=False, binding=False
"""The typed words of memory that a program writes on its hot paths.

Written in Cython's pure Python mode: compiled with `cells.pxd` where there is a compiler, run as
it stands where there is none. Each method is written once, over the helpers that `_words.py` and
`_words.pxd` define under the same names.

**Why the updates look as they do.** A cell of several words has two buffers and the words
``begun`` and ``seq``; buffer ``seq & 1`` is the current one (see ``docs/format.md``). Every update
checks its arguments first, and then runs from the store of ``begun`` to the store of ``seq``
without calling anything. Compiled, no other thread, signal handler or GC callback can come in
between. Uncompiled, CPython with the GIL looks for other threads and signals only at calls and at
backward jumps, so the same holds there; that is how CPython is, not what Python promises.
"""

from __future__ import annotations

from array import array
from contextvars import ContextVar
from typing import Any

from .errors import ClosedError, LabelError

try:
    import cython
except ImportError:
    from mmstats import _nocython as cython

if not cython.compiled:
    from typing import TYPE_CHECKING

    from mmstats import _nocython as cython  # also where Cython is installed: its NULL is true
    from mmstats._words import (
        MASK,
        bucket,
        bytes_at,
        doubles_at,
        now,
        set_attribute,
        single,
        utf8,
        utf8_size,
        wall_ns,
        whole,
        words_at,
        wrap,
    )

    if TYPE_CHECKING:
        from mmstats._words import copy, fence
        from mmstats.decorators import Function

#: Whether this module runs as C.
COMPILED: bool = bool(cython.compiled)

#: A word of a private page that the kernel wipes in a forked child: 0 there says that the cells
#: still point into the parent's file. It costs a load, and it needs no fork hook to have run.
ALIVE = cython.NULL
_ALIVE_VIEW: Any = None

#: The timings that are running in this thread, greenlet or task: ``(key, start, timing, rest)``.
_RUNNING: ContextVar[Any] = ContextVar("mmstats_running", default=None)


def set_alive(view: memoryview) -> None:
    """Point `ALIVE` at the first word of `view`."""
    global ALIVE, _ALIVE_VIEW
    _ALIVE_VIEW = view
    ALIVE = words_at(view, 0)


class Cell:
    """A value's place in a stat file, or in private memory where there is no file.

    `owner` binds it on first use, and again after a fork; `series` tells the owner what it is.
    """

    def __init__(self, owner: Any, series: Any) -> None:
        self.owner = owner
        self.series = series
        self._fresh = False  # whether each access gets a new object of it, as with timers
        self._view: Any = None
        self._w = cython.NULL
        self._f = cython.NULL
        self._b = cython.NULL

    @cython.locals(w="uint64_t *", f="double *", b="char *")
    def bind(self, view: memoryview, offset: int, before: Any = None, seen: Any = None) -> bool:
        """Write to ``view[offset:]`` from now on, in place of the view `before` that holds what was `seen`.

        False, and nothing is done, if a signal handler has bound the cell or recorded meanwhile.
        """
        f = doubles_at(view, offset)
        b = bytes_at(view, offset)
        w = words_at(view, offset)
        # Nothing is called from here on.
        if self._view is not before or before != seen:
            return False
        self._view = view
        self._f = f
        self._b = b
        self._w = w
        return True

    def unbind(self) -> None:
        """Let go of the memory; the next use asks the owner for a place again."""
        self._w = cython.NULL
        self._f = cython.NULL
        self._b = cython.NULL
        self._view = None

    @property
    def bound(self) -> bool:
        """Whether it has memory to write to, and that memory is this process' own."""
        return self._ready()

    def _ready(self) -> bool:
        if self._w and ALIVE[0]:
            return True
        return False

    def close(self) -> None:
        """Let go of the memory for good; any later use raises `ClosedError`."""
        self.unbind()
        self.owner = None

    def forget(self) -> None:
        """Take back what is known beside the memory, before the cell is bound to memory that is all zero."""

    def reset(self) -> None:
        """Put the initial value into memory that is all zero."""

    def _wake(self) -> None:
        if self.owner is None:
            raise ClosedError("this field's model was removed: make a new one to go on recording")
        self.owner.wake(self)

    def get(self) -> Any:
        """The current value."""
        raise NotImplementedError

    def assign(self, value: Any) -> None:
        """Set the value, for fields that are assigned as attributes."""
        raise AttributeError("this field is not set by assignment")

    def read(self) -> Any:
        """What a program gets that asks for the field: itself, or, of a timer, a fresh timing."""
        return self


class Counter(Cell):
    """A count that only goes up: unsigned, 64 bits, and wraps as C's does."""

    def inc(self, n: int = 1) -> None:
        """Add `n`, which must not be negative."""
        if not (self._w and ALIVE[0]):
            self._wake()
        amount = whole(n)
        if not 0 <= amount <= 0x7FFFFFFFFFFFFFFF:
            raise ValueError("a counter only goes up: use a GaugeField for what goes up and down")
        self._w[0] = (self._w[0] + amount) & MASK

    def incr(self, amount: int = 1) -> None:
        """Add `amount` as mmstats 0.x did: a negative one is let through and wraps."""
        if not (self._w and ALIVE[0]):
            self._wake()
        word = wrap(amount, 64, False)  # before the word is read: uncompiled, another thread may come in at a call
        self._w[0] = (self._w[0] + word) & MASK

    def count_exceptions(self, exception: Any = Exception) -> CountExceptions:
        """A context manager and decorator that counts what is raised inside, and lets it pass."""
        return CountExceptions(self, exception)

    def get(self) -> int:
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._w[0]

    def assign(self, value: int) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        self._w[0] = wrap(value, 64, False)

    @property
    def value(self) -> int:
        return self.get()

    @value.setter
    def value(self, value: int) -> None:
        self.assign(value)


class FloatCounter(Cell):
    """A counter of what is not whole, such as seconds of CPU time."""

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount`, which must not be negative."""
        if not (self._w and ALIVE[0]):
            self._wake()
        if not amount >= 0:
            raise ValueError("a counter only goes up: use a GaugeField for what goes up and down")
        self._f[0] = self._f[0] + amount

    def count_exceptions(self, exception: Any = Exception) -> CountExceptions:
        """A context manager and decorator that counts what is raised inside, and lets it pass."""
        return CountExceptions(self, exception)

    def get(self) -> float:
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._f[0]

    @property
    def value(self) -> float:
        return self.get()


class Gauge(Cell):
    """A number that goes up and down."""

    def __init__(self, owner: Any, series: Any, initial: float = 0.0, stamped: bool = False) -> None:
        Cell.__init__(self, owner, series)
        self._initial = initial
        self._stamped = stamped

    def reset(self) -> None:
        if self._initial:
            self._f[0] = self._initial

    def set(self, value: float) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        self._f[0] = value
        if self._stamped:
            self._w[1] = wall_ns()

    def inc(self, amount: float = 1.0) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        self._f[0] = self._f[0] + amount
        if self._stamped:
            self._w[1] = wall_ns()

    def dec(self, amount: float = 1.0) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        self._f[0] = self._f[0] - amount
        if self._stamped:
            self._w[1] = wall_ns()

    def set_to_current_time(self) -> None:
        """Set to seconds since the epoch."""
        self.set(wall_ns() / 1e9)

    def track_inprogress(self) -> InProgress:
        """A context manager and decorator that counts how many are inside."""
        return InProgress(self)

    def get(self) -> float:
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._f[0]

    def assign(self, value: float) -> None:
        self.set(value)

    @property
    def value(self) -> float:
        return self.get()


class Integer(Cell):
    """An integer of `bits` bits that is set by assignment and wraps as C's does."""

    def __init__(
        self, owner: Any, series: Any, bits: int = 64, signed: bool = True, initial: int = 0, stamped: bool = False
    ) -> None:
        Cell.__init__(self, owner, series)
        self._bits = bits
        self._signed = signed
        self._initial = initial
        self._stamped = stamped

    def reset(self) -> None:
        self._w[0] = wrap(self._initial, self._bits, self._signed)

    def get(self) -> int:
        if not (self._w and ALIVE[0]):
            self._wake()
        value: Any = self._w[0]
        if self._signed and value >> 63:
            return value - (1 << 64)
        return value

    def assign(self, value: int) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        self._w[0] = wrap(value, self._bits, self._signed)
        if self._stamped:
            self._w[1] = wall_ns()

    def set(self, value: Any) -> None:
        """The same as an assignment."""
        self.assign(value)

    @property
    def value(self) -> int:
        return self.get()

    @value.setter
    def value(self, value: int) -> None:
        self.assign(value)


class Float(Cell):
    """A float that is set by assignment; as `narrow` it keeps the precision of C's float."""

    def __init__(
        self, owner: Any, series: Any, narrow: bool = False, initial: float = 0.0, stamped: bool = False
    ) -> None:
        Cell.__init__(self, owner, series)
        self._single = narrow
        self._initial = initial
        self._stamped = stamped

    def reset(self) -> None:
        self._f[0] = single(self._initial) if self._single else self._initial

    def get(self) -> float:
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._f[0]

    def assign(self, value: float) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        self._f[0] = single(value) if self._single else value
        if self._stamped:
            self._w[1] = wall_ns()

    def set(self, value: Any) -> None:
        """The same as an assignment."""
        self.assign(value)

    @property
    def value(self) -> float:
        return self.get()

    @value.setter
    def value(self, value: float) -> None:
        self.assign(value)


class Bool(Cell):
    """True or False, set by assignment."""

    def __init__(self, owner: Any, series: Any, initial: bool = False, stamped: bool = False) -> None:
        Cell.__init__(self, owner, series)
        self._initial = initial
        self._stamped = stamped

    def reset(self) -> None:
        self._w[0] = 1 if self._initial else 0

    def get(self) -> bool:
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._w[0] != 0

    def assign(self, value: Any) -> None:
        word = 1 if value else 0
        if not (self._w and ALIVE[0]):
            self._wake()
        self._w[0] = word
        if self._stamped:
            self._w[1] = wall_ns()

    def set(self, value: Any) -> None:
        """The same as an assignment."""
        self.assign(value)

    @property
    def value(self) -> bool:
        return self.get()

    @value.setter
    def value(self, value: Any) -> None:
        self.assign(value)


class Enum(Cell):
    """One of a few named states."""

    def __init__(self, owner: Any, series: Any, states: tuple[str, ...] = ("",), stamped: bool = False) -> None:
        Cell.__init__(self, owner, series)
        self._states = states
        self._numbers = {state: number for number, state in enumerate(states)}
        self._stamped = stamped

    def state(self, state: str) -> None:
        """Enter `state`, which must be one of the field's."""
        number = self._numbers.get(state)
        if number is None:
            raise ValueError(f"unknown state {state!r}: it is one of {', '.join(self._states)}")
        if not (self._w and ALIVE[0]):
            self._wake()
        self._w[0] = number
        if self._stamped:
            self._w[1] = wall_ns()

    def get(self) -> str:
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._states[self._w[0]]

    def assign(self, value: str) -> None:
        self.state(value)

    @property
    def value(self) -> str:
        return self.get()


class Text(Cell):
    """A text of at most `size` bytes of UTF-8, cut at a character's border."""

    def __init__(self, owner: Any, series: Any, size: int = 255, initial: str = "", stamped: bool = False) -> None:
        Cell.__init__(self, owner, series)
        self._size = size
        self._buffer = 8 + ((size + 7) & ~7) + (8 if stamped else 0)
        self._initial = initial
        self._stamped = stamped

    def reset(self) -> None:
        if self._initial:
            self.set(self._initial)

    @cython.locals(
        w="uint64_t *", b="char *", seq="uint64_t", at="Py_ssize_t", size="Py_ssize_t", data="const char *",
        stamped="bint", stamp="uint64_t",
    )  # fmt: skip
    def assign(self, value: Any) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        if type(value) is not str:
            value = as_text(value)
        try:
            size = utf8_size(value, self._size)
        except UnicodeEncodeError:
            value = value.encode("utf-8", "replace").decode()
            size = utf8_size(value, self._size)
        data = utf8(value, size)
        stamped = self._stamped
        stamp = wall_ns() if stamped else 0
        w = self._w
        b = self._b
        seq = w[1] + 1
        at = 24 + (seq & 1) * self._buffer
        w[0] = seq
        if cython.compiled:
            fence()
        w[at >> 3] = size
        if cython.compiled:
            copy(b + at + 8, data, size)
        else:
            b[at + 8 : at + 8 + size] = data
        if stamped:
            w[((at + self._buffer) >> 3) - 1] = stamp
        if cython.compiled:
            fence()
        w[1] = seq

    def get(self) -> str:
        if not (self._w and ALIVE[0]):
            self._wake()
        at = 24 + (self._w[1] & 1) * self._buffer
        size = self._w[at >> 3]
        return bytes(self._b[at + 8 : at + 8 + size]).decode("utf-8", "replace")

    def set(self, value: Any) -> None:
        """The same as an assignment."""
        self.assign(value)

    @property
    def value(self) -> str:
        return self.get()

    @value.setter
    def value(self, value: Any) -> None:
        self.set(value)


class Info(Text):
    """A few facts that describe the process, such as its version: names and texts, kept as JSON."""

    def info(self, value: dict[str, Any]) -> None:
        """Set the facts; names and values become strings. A forked child keeps them."""
        import json

        text = json.dumps({str(key): str(item) for key, item in value.items()}, ensure_ascii=False)
        if len(text.encode("utf-8", "replace")) > self._size:
            raise ValueError(
                f"these facts take more than the field's {self._size} bytes: give InfoField a larger size="
            )
        self.set(text)
        self._initial = text

    def get(self) -> dict[str, str]:  # type: ignore[override]
        import json

        return json.loads(Text.get(self) or "{}")

    @property  # type: ignore[misc]
    def value(self) -> dict[str, str]:  # type: ignore[override]
        return self.get()


def as_text(value: Any) -> str:
    """`value`, which must be str or bytes, as str."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    raise TypeError(f"a text is needed, not {type(value).__name__}")


class Struct(Cell):
    """Several named values that change as one.

    `encode` packs them into a buffer's bytes; `coerce` makes a value what the buffer can hold.
    """

    def __init__(self, owner: Any, series: Any, encode: Any = None, coerce: Any = None, initial: Any = None) -> None:
        Cell.__init__(self, owner, series)
        self._encode = encode
        self._coerce = coerce
        self._initial = dict(initial or {})
        self._values = dict(self._initial)
        self._buffer = len(encode(self._values)) if encode is not None else 0

    def forget(self) -> None:
        self._values = dict(self._initial)

    def reset(self) -> None:
        packed = self._encode(self._initial)
        if any(packed):
            self._write(self._w[1], packed, dict(self._initial))

    def set(self, **values: Any) -> None:
        """Set the values that are named; the others stay. Either all of them change, or none."""
        if not (self._w and ALIVE[0]):
            self._wake()
        while True:
            seen = self._w[1]
            merged = dict(self._values)
            for name, value in values.items():
                if name not in merged:
                    raise ValueError(f"no value named {name!r}: this struct has {', '.join(merged)}")
                merged[name] = self._coerce(name, value)
            if self._write(seen, self._encode(merged), merged):
                return

    def _write(self, seen: int, packed: bytes, values: Any) -> bool:
        """Publish `packed`, unless another thread has published since `seen`."""
        w = self._w
        b = self._b
        size = self._buffer
        data = packed
        if len(packed) != size:
            raise ValueError("the packed values are not of the buffer's size")
        seq = seen + 1
        at = 24 + (seq & 1) * size
        if w[1] != seen:
            return False
        w[0] = seq
        if cython.compiled:
            fence()
        if cython.compiled:
            copy(b + at, data, size)
        else:
            b[at : at + size] = data
        if cython.compiled:
            fence()
        w[1] = seq
        before = self._values  # kept until here: what goes with it may run the program's code
        self._values = values
        del before
        return True

    def get(self) -> dict[str, Any]:
        if not (self._w and ALIVE[0]):
            self._wake()
        return dict(self._values)

    @property
    def value(self) -> dict[str, Any]:
        return self.get()


class Sampler(Cell):
    """What takes samples. A buffer of its cell is `_k` words and begins with count and sum."""

    def __init__(self, owner: Any, series: Any, words: int) -> None:
        Cell.__init__(self, owner, series)
        self._k = words

    def record(self, value: float) -> None:
        """Count one sample. A NaN is no sample and is ignored."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many samples there were."""
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._w[3 + (self._w[1] & 1) * self._k]

    @property
    def sum(self) -> float:
        """The sum of all samples."""
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._f[4 + (self._w[1] & 1) * self._k]

    def get(self) -> float:
        count = self.count
        return self.sum / count if count else 0.0

    @property
    def value(self) -> float:
        """The mean; 0 before the first sample."""
        return self.get()


class Histogram(Sampler):
    """Counts samples by size. `bounds` are the inclusive upper bounds of all buckets but the last."""

    # A buffer: count, sum, one word for each bucket. It is not copied whole: but for bucket
    # `_last`, the buffer that is not current has the buckets of the one that is.

    def __init__(self, owner: Any, series: Any, bounds: Any = (1.0,)) -> None:
        Sampler.__init__(self, owner, series, len(bounds) + 3)
        self._bounds = array("d", bounds)
        self._n = len(self._bounds)
        self._bp = doubles_at(memoryview(self._bounds).cast("B"), 0)
        self._last = 0

    def forget(self) -> None:
        self._last = 0

    def observe(self, value: float) -> None:
        """Count one sample. A NaN is no sample and is ignored."""
        if not (self._w and ALIVE[0]):
            self._wake()
        if value != value:
            return
        i = bucket(self._bp, self._n, value)
        w = self._w
        f = self._f
        seq = w[1] + 1
        if seq & 1:
            c = 3
            a = 3 + self._k
        else:
            a = 3
            c = 3 + self._k
        w[0] = seq
        if cython.compiled:
            fence()
        j = self._last + 2
        w[a + j] = w[c + j]
        self._last = i
        w[a + 2 + i] = w[c + 2 + i] + 1
        w[a] = w[c] + 1
        f[a + 1] = f[c + 1] + value
        if cython.compiled:
            fence()
        w[1] = seq

    def record(self, value: float) -> None:
        self.observe(value)

    def time(self) -> Timing:
        """A context manager and decorator that observes how many seconds it took."""
        return Timing(self, None)


class Average(Sampler):
    """The mean of all samples, kept as count and sum so that processes merge rightly."""

    def __init__(self, owner: Any, series: Any) -> None:
        Sampler.__init__(self, owner, series, 2)

    @cython.locals(w="uint64_t *", f="double *", seq="uint64_t", a="Py_ssize_t", c="Py_ssize_t")
    def record(self, value: float) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        if value != value:
            return
        w = self._w
        f = self._f
        seq = w[1] + 1
        if seq & 1:
            c = 3
            a = 5
        else:
            a = 3
            c = 5
        w[0] = seq
        if cython.compiled:
            fence()
        w[a] = w[c] + 1
        f[a + 1] = f[c + 1] + value
        if cython.compiled:
            fence()
        w[1] = seq

    def add(self, value: float) -> None:
        """Count one sample. A NaN is no sample and is ignored."""
        self.record(value)

    def observe(self, value: float) -> None:
        """The same as `add`."""
        self.record(value)


class Window(Sampler):
    """The last, shortest, longest and moving mean of samples: what timers and moving averages keep.

    The moving mean is over the last `size` samples, which themselves stay in this process.
    """

    # A buffer: count, sum, last, min, max, window_count, window_sum.

    def __init__(self, owner: Any, series: Any, size: int = 100, timer: bool = False, clock: Any = None) -> None:
        Sampler.__init__(self, owner, series, 7)
        self._samples = array("d", bytes(8 * size))
        self._s = doubles_at(memoryview(self._samples).cast("B"), 0)
        self._n = size
        self._position = 0
        self._filled = 0
        self._fresh = timer
        self._clock = clock

    def forget(self) -> None:
        for i in range(self._n):
            self._s[i] = 0.0
        self._position = 0
        self._filled = 0

    @cython.locals(
        w="uint64_t *", f="double *", s="double *", seq="uint64_t", a="Py_ssize_t", c="Py_ssize_t", at="Py_ssize_t",
        total="double", filled="Py_ssize_t", low="double", high="double",
    )  # fmt: skip
    def record(self, value: float) -> None:
        if not (self._w and ALIVE[0]):
            self._wake()
        if value != value:
            return
        at = self._position
        # Once a round the window is summed afresh, or rounding errors would pile up for ever.
        total = sum(self._samples) if at == 0 and self._filled else 0.0
        w = self._w
        f = self._f
        s = self._s
        seq = w[1] + 1
        if seq & 1:
            c = 3
            a = 10
        else:
            a = 3
            c = 10
        if at != self._position or at or not self._filled:
            at = self._position
            total = f[c + 6]
        filled = self._filled
        if filled < self._n:
            filled += 1
        low = f[c + 3]
        high = f[c + 4]
        if not w[c] or value < low:
            low = value
        if not w[c] or value > high:
            high = value
        w[0] = seq
        if cython.compiled:
            fence()
        w[a] = w[c] + 1
        f[a + 1] = f[c + 1] + value
        f[a + 2] = value
        f[a + 3] = low
        f[a + 4] = high
        w[a + 5] = filled
        f[a + 6] = total + value - s[at]
        if cython.compiled:
            fence()
        w[1] = seq
        s[at] = value
        self._filled = filled
        self._position = at + 1 if at + 1 < self._n else 0

    def add(self, value: float) -> None:
        """Count one sample. A NaN is no sample and is ignored."""
        self.record(value)

    def observe(self, value: float) -> None:
        """The same as `add`."""
        self.record(value)

    def read(self) -> Any:
        return Timing(self, self._clock) if self._fresh else self

    @property
    def last(self) -> float:
        """The newest sample."""
        if not (self._w and ALIVE[0]):
            self._wake()
        return self._f[5 + (self._w[1] & 1) * 7]

    def get(self) -> float:
        if not (self._w and ALIVE[0]):
            self._wake()
        at = 3 + (self._w[1] & 1) * 7
        count = self._w[at + 5]
        return self._f[at + 6] / count if count else 0.0

    @property
    def value(self) -> float:
        """The mean of the last samples; 0 before the first."""
        return self.get()


class Timing:
    """Times what runs inside it: a context manager, a decorator, and a pair of start and stop.

    A program gets a fresh one each time it spells ``stats.render`` or ``stats.latency.time()``.
    One that is kept and entered again while it runs (nested, by a thread, a greenlet or a task)
    is right too: from then on it keeps its starting times by context instead of in itself.
    """

    def __init__(self, cell: Any, clock: Any) -> None:
        self.cell = cell
        self._clock = clock
        self._start = 0.0
        self._elapsed = 0.0
        self._state = 0  # 0 fresh, 1 running, 2 done
        self._shared = False

    def _now(self) -> float:
        if self._clock is None:
            return now()
        return self._clock()

    def __enter__(self) -> Timing:
        if self._state == 1 or self._shared:
            self._shared = True
            inner = Timing(self.cell, self._clock)
            _RUNNING.set((self, inner, _RUNNING.get()))
            return inner.__enter__()
        self._state = 1
        self._start = self._now()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._shared:
            inner = _pop(self)
            if inner is not None:
                inner.__exit__(kind, error, traceback)
                return
        self._elapsed = self._now() - self._start
        self._state = 2
        self.cell.record(self._elapsed)

    def __call__(self, function: Function) -> Function:
        """Decorate `function` so that each of its calls is timed."""
        from .decorators import inside

        return inside(self._again, function)

    def _again(self) -> Timing:
        return Timing(self.cell, self._clock)

    def start(self) -> None:
        """Start timing; `stop` in the same thread, greenlet or task ends it."""
        inner = Timing(self.cell, self._clock)
        _RUNNING.set((self.cell, inner, _RUNNING.get()))
        inner.__enter__()

    def stop(self) -> float:
        """End what `start` began and return the seconds since."""
        inner = _pop(self.cell)
        if inner is None:
            raise RuntimeError("stop() without start() in this thread, greenlet or task")
        inner.__exit__(None, None, None)
        return inner.elapsed

    def observe(self, value: float) -> None:
        """Count a duration that was measured elsewhere, seconds."""
        self.cell.record(value)

    @property
    def elapsed(self) -> float:
        """Seconds since the start while inside, and how long it took afterwards."""
        return self._now() - self._start if self._state == 1 else self._elapsed

    @property
    def value(self) -> float:
        return self.cell.get()

    @property
    def last(self) -> float:
        return self.cell.last

    @property
    def count(self) -> int:
        return self.cell.count

    @property
    def sum(self) -> float:
        return self.cell.sum


def _pop(key: Any) -> Any:
    """Take the innermost running timing of `key` off this context's list; None if there is none."""
    top = _RUNNING.get()
    above = []
    node = top
    while node is not None and node[0] is not key:
        above.append(node)
        node = node[2]
    if node is None:
        return None
    rest = node[2]
    for entry in reversed(above):
        rest = (entry[0], entry[1], rest)
    _RUNNING.set(rest)
    return node[1]


class InProgress:
    """Adds one to a gauge on the way in and takes it off on the way out."""

    __slots__ = ("_gauge",)

    def __init__(self, gauge: Any) -> None:
        self._gauge = gauge

    def __enter__(self) -> None:
        self._gauge.inc()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._gauge.dec()

    def __call__(self, function: Function) -> Function:
        from .decorators import inside

        return inside(lambda: self, function)


class CountExceptions:
    """Adds one to a counter when an exception of the given classes passes through."""

    __slots__ = ("_counter", "_exception")

    def __init__(self, counter: Any, exception: Any) -> None:
        self._counter = counter
        self._exception = exception

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None and issubclass(kind, self._exception):
            self._counter.inc()

    def __call__(self, function: Function) -> Function:
        from .decorators import inside

        return inside(lambda: self, function)


class Labelled:
    """A field with labels: one cell for each set of label values, made when it is first asked for.

    `make` is called with a tuple of strings; it returns a cell, and whether that is to be kept.
    """

    def __init__(self, names: tuple[str, ...], make: Any) -> None:
        self._names = names
        self._make = make
        self._children: dict[Any, Any] = {}

    @cython.locals(child="Cell", key=tuple)
    def labels(self, *values: Any, **named: Any) -> Any:
        """The cell of these label values, by position or by name; values are made strings."""
        key = self._by_name(values, named) if named else values
        # 1, 1.0 and True are one key to a dict and three label values: look up str and int only.
        for value in key:
            if type(value) is not str and type(value) is not int:
                key = tuple([str(item) for item in key])
                break
        child = self._children.get(key)
        if child is None:
            child = self._find(key)
        return child.read() if child._fresh else child

    def _by_name(self, values: Any, named: Any) -> Any:
        names = self._names[len(values) :] if values else self._names
        if len(names) != len(named):
            raise LabelError(f"labels are needed for {', '.join(self._names)}, by position or by name")
        try:
            rest = tuple([named[name] for name in names])
        except KeyError as error:
            raise LabelError(f"no label {error} was given: the labels are {', '.join(self._names)}") from None
        return values + rest if values else rest

    def _find(self, values: Any) -> Any:
        if len(values) != len(self._names):
            raise LabelError(
                f"{len(values)} label values were given for {len(self._names)} labels: {', '.join(self._names)}"
            )
        texts = tuple([str(value) for value in values])
        child = self._children.get(texts)
        if child is None:
            child, keep = self._make(texts)
            if not keep:
                return child
        self._children[values] = child
        return child

    def find(self, texts: Any) -> Any:
        """The cell of these label values, all strings; None if there is none yet."""
        return self._children.get(texts)

    def keep(self, texts: Any, cell: Any) -> Any:
        """Remember `cell`, unless there is one already; returns the one that stays."""
        return self._children.setdefault(texts, cell)

    def children(self) -> dict[tuple[str, ...], Any]:
        """All cells so far, by their label values."""
        return {cell.series.labels: cell for cell in list(self._children.values())}


class Slot:
    """The descriptor of a field that is read or set as an attribute.

    `access` is "value"; "static" for what can't be set; "fresh" for what is new at each access.
    """

    def __init__(self, index: int, field: Any, access: str = "value") -> None:
        self._i = index
        self._fresh = access == "fresh"
        self._settable = access == "value"
        self.field = field

    @cython.locals(model="Model", cell="Cell")
    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self.field
        model = instance
        cell = model._cells[self._i]
        if self._fresh:
            return cell.read()
        return cell.get()

    @cython.locals(model="Model", cell="Cell")
    def __set__(self, instance: Any, value: Any) -> None:
        if not self._settable:
            raise AttributeError("this field can't be set: a timer is used by `with`, and a static field stays")
        model = instance
        cell = model._cells[self._i]
        cell.assign(value)


class Model:
    """What a model's instances are to C: a list of cells, and names that must not be rebound."""

    def __init__(self) -> None:
        self._install([], ())

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._objects:
            raise AttributeError(f"{name} is not set by assignment: use its methods, such as inc(), set() or observe()")
        set_attribute(self, name, value)

    def _install(self, cells: Any, objects: Any) -> None:
        if cython.compiled:
            self._cells = cells
            self._objects = frozenset(objects)
        else:  # round __setattr__, which needs them
            set_attribute(self, "_cells", cells)
            set_attribute(self, "_objects", frozenset(objects))


@cython.locals(w="uint64_t *")
def publish(view: memoryview, offset: int, value: int) -> None:
    """Store a word after everything that was stored before it, as other processes see it."""
    w = words_at(view, offset)
    if cython.compiled:
        fence()
    w[0] = value
