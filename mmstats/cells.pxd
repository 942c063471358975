# cython: language_level=3
# The C side of cells.py: what is a pointer, what is a number, and the helpers of _words.py in C.
cimport cython
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    #include <time.h>

    /* Orders the stores before it ahead of the stores after it, for readers in other processes. */
    static inline void mm_fence(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }

    static inline char *mm_bytes_at(PyObject *view, Py_ssize_t offset) {
        Py_buffer *buffer;
        if (!PyMemoryView_Check(view)) { PyErr_SetString(PyExc_TypeError, "a memoryview is needed"); return NULL; }
        buffer = PyMemoryView_GET_BUFFER(view);
        if (offset < 0 || offset > buffer->len) { PyErr_SetString(PyExc_IndexError, "outside of the view"); return NULL; }
        return (char *)buffer->buf + offset;
    }
    static inline uint64_t *mm_words_at(PyObject *view, Py_ssize_t offset) { return (uint64_t *)mm_bytes_at(view, offset); }
    static inline double *mm_doubles_at(PyObject *view, Py_ssize_t offset) { return (double *)mm_bytes_at(view, offset); }

    static inline Py_ssize_t mm_bucket(const double *bounds, Py_ssize_t size, double value) {
        Py_ssize_t i = 0;
        while (i < size && value > bounds[i]) i++;
        return i;
    }
    static inline double mm_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
    }
    static inline uint64_t mm_wall_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    static inline uint64_t mm_wrap(PyObject *value, int bits, int is_signed) {
        uint64_t word = PyLong_AsUnsignedLongLongMask(value); /* by __index__ where it is no int */
        if (word == (uint64_t)-1 && PyErr_Occurred()) return word;
        if (bits < 64) {
            word &= (((uint64_t)1) << bits) - 1;
            if (is_signed && (word >> (bits - 1))) word |= ~((((uint64_t)1) << bits) - 1);
        }
        return word;
    }
    static inline double mm_single(double value) { return (double)(float)value; }
    static inline Py_ssize_t mm_utf8_size(PyObject *value, Py_ssize_t limit) {
        Py_ssize_t size;
        const char *data = PyUnicode_AsUTF8AndSize(value, &size);
        if (!data) return -1;
        if (size <= limit) return size;
        while (limit && ((unsigned char)data[limit] & 0xC0) == 0x80) limit--;
        return limit;
    }
    static inline const char *mm_utf8(PyObject *value, Py_ssize_t size) { (void)size; return PyUnicode_AsUTF8AndSize(value, NULL); }
    """
    const uint64_t MASK "UINT64_MAX"
    void fence "mm_fence"() noexcept nogil
    void copy "memcpy"(char *target, const char *source, size_t size) noexcept nogil
    char *bytes_at "mm_bytes_at"(object view, Py_ssize_t offset) except NULL
    uint64_t *words_at "mm_words_at"(object view, Py_ssize_t offset) except NULL
    double *doubles_at "mm_doubles_at"(object view, Py_ssize_t offset) except NULL
    Py_ssize_t bucket "mm_bucket"(const double *bounds, Py_ssize_t size, double value) noexcept nogil
    double now "mm_now"() noexcept nogil
    uint64_t wall_ns "mm_wall_ns"() noexcept nogil
    uint64_t wrap "mm_wrap"(object value, int bits, bint is_signed) except? -1
    double single "mm_single"(double value) noexcept nogil
    Py_ssize_t utf8_size "mm_utf8_size"(object value, Py_ssize_t limit) except -1
    const char *utf8 "mm_utf8"(object value, Py_ssize_t size) except NULL
    int set_attribute "PyObject_GenericSetAttr"(object target, object name, object value) except -1

# Cython's own conversion would cut the fraction off a float and say nothing.
cdef inline int64_t whole(object value) except? -1:
    return value if isinstance(value, int) else PyNumber_Index(value)

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
@cython.freelist(16)
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
