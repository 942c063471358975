# cython: language_level=3
# The C side of cells.py: what is a pointer, and what is a number.
cimport cython
from libc.stdint cimport int64_t, uint64_t

from mmstats._words cimport (
    MASK, bucket, bytes_at, copy, doubles_at, fence, now, set_attribute, single, utf8, utf8_size, wall_ns, whole,
    words_at, wrap,
)

cdef const volatile uint64_t *ALIVE
cdef object _ALIVE_VIEW

cdef class Cell:
    cdef uint64_t *_w
    cdef double *_f
    cdef char *_b
    cdef object _view
    cdef bint _fresh
    cdef readonly object owner
    cdef readonly object series
    cdef bint _ready(self)
    cpdef bint bind(self, view, Py_ssize_t offset, before=*, seen=*) except -1
    cpdef unbind(self)
    cpdef forget(self)
    cpdef reset(self)
    cdef _wake(self)
    cpdef get(self)
    cpdef assign(self, value)
    cpdef read(self)

@cython.final
cdef class Counter(Cell):
    @cython.locals(amount=int64_t)
    cpdef inc(self, n=*)
    cpdef incr(self, amount=*)

@cython.final
cdef class FloatCounter(Cell):
    cpdef inc(self, double amount=*)

@cython.final
cdef class Gauge(Cell):
    cdef bint _stamped
    cdef object _initial
    cpdef set(self, double value)
    cpdef inc(self, double amount=*)
    cpdef dec(self, double amount=*)

@cython.final
cdef class Integer(Cell):
    cdef int _bits
    cdef bint _signed
    cdef bint _stamped
    cdef object _initial

@cython.final
cdef class Float(Cell):
    cdef bint _single
    cdef bint _stamped
    cdef object _initial

@cython.final
cdef class Bool(Cell):
    cdef bint _stamped
    cdef object _initial

@cython.final
cdef class Enum(Cell):
    cdef bint _stamped
    cdef tuple _states
    cdef dict _numbers
    cpdef state(self, state)

cdef class Text(Cell):
    cdef Py_ssize_t _size
    cdef Py_ssize_t _buffer
    cdef bint _stamped
    cdef object _initial

@cython.final
cdef class Info(Text):
    pass

@cython.final
cdef class Struct(Cell):
    cdef Py_ssize_t _buffer
    cdef object _encode
    cdef object _coerce
    cdef object _initial
    cdef object _values
    @cython.locals(w="uint64_t *", b="char *", seq=uint64_t, at=Py_ssize_t, size=Py_ssize_t, data="const char *")
    cpdef bint _write(self, uint64_t seen, bytes packed, object values) except -1

cdef class Sampler(Cell):
    cdef Py_ssize_t _k
    cpdef record(self, double value)

@cython.final
cdef class Histogram(Sampler):
    cdef object _bounds
    cdef double *_bp
    cdef Py_ssize_t _n
    cdef Py_ssize_t _last
    @cython.locals(w="uint64_t *", f="double *", seq=uint64_t, i=Py_ssize_t, a=Py_ssize_t, c=Py_ssize_t, j=Py_ssize_t)
    cpdef observe(self, double value)

@cython.final
cdef class Average(Sampler):
    pass

@cython.final
cdef class Window(Sampler):
    cdef object _samples
    cdef double *_s
    cdef Py_ssize_t _n
    cdef Py_ssize_t _position
    cdef Py_ssize_t _filled
    cdef object _clock

@cython.final
cdef class Timing:
    cdef readonly Sampler cell
    cdef object _clock
    cdef double _start
    cdef double _elapsed
    cdef int _state
    cdef bint _shared
    cdef double _now(self) except? -1

@cython.final
cdef class Labelled:
    cdef dict _children
    cdef tuple _names
    cdef object _make
    @cython.locals(names=tuple, rest=tuple)
    cdef tuple _by_name(self, tuple values, dict named)
    cdef Cell _find(self, tuple values)

@cython.final
cdef class Slot:
    cdef Py_ssize_t _i
    cdef bint _fresh
    cdef bint _settable
    cdef readonly object field

cdef class Model:
    cdef list _cells
    cdef frozenset _objects
