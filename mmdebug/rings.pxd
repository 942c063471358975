# cython: language_level=3
# The C side of rings.py: what is a pointer, what is a number, and the helpers of _packing.py in C.
cimport cython
from libc.stdint cimport int64_t, uint64_t
from mmstats._words cimport bytes_at, copy, fence, utf8, utf8_size, wall_ns, wrap
from mmstats.cells cimport Cell

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    static inline void mm_put(char *target, Py_ssize_t at, const char *data, Py_ssize_t size) { memcpy(target + at, data, (size_t)size); }
    static inline void mm_put_word(char *target, Py_ssize_t at, uint64_t word) { memcpy(target + at, &word, 8); }
    static inline void mm_put_double(char *target, Py_ssize_t at, double value) { memcpy(target + at, &value, 8); }
    static inline void mm_put_head(char *target, Py_ssize_t at, int kind, Py_ssize_t key, Py_ssize_t size) {
        target[at] = (char)kind;
        target[at + 1] = (char)key;
        target[at + 2] = (char)(size & 255);
        target[at + 3] = (char)(size >> 8);
    }
    static inline int mm_fits(PyObject *value) {
        int overflow;
        (void)PyLong_AsLongLongAndOverflow(value, &overflow);
        return !overflow;
    }

    /* 1 for what parts a name from a value and for controls, 2 for what a token is made of, 3 for blanks, 0 for others. */
    static const unsigned char mm_classes[128] = {
        1,1,1,1,1,1,1,1, 1,3,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1,
        3,0,1,0,0,1,0,1, 0,0,0,0,0,2,0,0, 2,2,2,2,2,2,2,2, 2,2,1,0,0,1,1,0,
        1,2,2,2,2,2,2,2, 2,2,2,2,2,2,2,2, 2,2,2,2,2,2,2,2, 2,2,2,0,0,0,0,2,
        1,2,2,2,2,2,2,2, 2,2,2,2,2,2,2,2, 2,2,2,2,2,2,2,2, 2,2,2,0,0,0,0,1,
    };
    static inline int mm_plain(PyObject *text) {
        Py_ssize_t i, run = 0, size;
        const unsigned char *data;
        if (!PyUnicode_IS_COMPACT_ASCII(text)) return 0;
        size = PyUnicode_GET_LENGTH(text);
        if (size > 32) return 0;
        data = (const unsigned char *)PyUnicode_1BYTE_DATA(text);
        for (i = 0; i < size; i++) {
            switch (mm_classes[data[i]]) {
            case 1: return 0;
            case 2:
                if (++run > 10 || (data[i] == '-' && i && data[i - 1] == '-')) return 0;
                break;
            case 3:
                if (i && ((data[i - 1] | 32) == 'r' || (data[i - 1] | 32) == 'c')) return 0;
                run = 0;
                break;
            default: run = 0;
            }
        }
        return 1;
    }
    """
    void put "mm_put"(char *target, Py_ssize_t at, const char *data, Py_ssize_t size) noexcept nogil
    void put_word "mm_put_word"(char *target, Py_ssize_t at, uint64_t word) noexcept nogil
    void put_double "mm_put_double"(char *target, Py_ssize_t at, double value) noexcept nogil
    void put_head "mm_put_head"(char *target, Py_ssize_t at, int kind, Py_ssize_t key, Py_ssize_t size) noexcept nogil
    bint fits "mm_fits"(object value) noexcept
    bint plain "mm_plain"(object text) noexcept
    unsigned long thread_ident "PyThread_get_thread_ident"() noexcept nogil

cdef char *_SCRATCH
cdef object _SCRATCH_BUFFER
cdef uint64_t _LOW
cdef object _greenlet, _loop, _task
cdef Py_ssize_t REFUSED, HEAD, RECORD_HEAD, SLOT_HEAD, MAX_RECORD, MAX_NAME, MAX_KEY, MAX_TEXT
cdef int EVENT, LOG, NOTE, SAMPLE, TEXT, INTEGER, FLOAT, BOOL, NONE, CUT

cdef uint64_t context() except? 1
cdef Py_ssize_t pack_text(char *target, Py_ssize_t at, str key, str value, Py_ssize_t most) except? -1

@cython.final
cdef class Ring(Cell):
    cdef uint64_t _capacity
    cdef int append(self, char *source, uint64_t size) except -1

@cython.final
cdef class Slots(Cell):
    cdef Py_ssize_t _count
    cdef Py_ssize_t _size
    cdef int64_t _epoch
    cdef uint64_t _number
    cdef list _free
    cdef Py_ssize_t enter(self, char *source, uint64_t size, uint64_t thread, uint64_t where, bint cut) except -2
    cdef int leave(self, Py_ssize_t slot, int64_t epoch) except -1

@cython.final
cdef class Activity:
    cdef Recorder _recorder
    cdef object _name
    cdef dict _fields
    cdef Py_ssize_t _slot
    cdef int64_t _epoch
    cdef Py_ssize_t _again

cdef Activity make_activity(Recorder recorder, object name, dict fields)

@cython.final
cdef class Recorder:
    cdef bint _on
    cdef object _sanitizer
    cdef readonly dict keys
    cdef readonly dict texts
    cdef readonly dict templates
    cdef Ring _debug
    cdef Ring _info
    cdef Ring _warning
    cdef Ring _error
    cdef Ring _samples
    cdef Slots _slots
    cdef object _logs
    cdef Py_ssize_t _standard
    cdef bint _plain(self, object text) except -1
    cdef Py_ssize_t _pack(self, char *target, Py_ssize_t at, Py_ssize_t limit, dict fields, bint cleaned) except? -1
    cdef Ring _ring(self, object severity)
    cdef bint _write(self, Ring ring, int kind, object name, dict fields, bint cleaned) except -1
    cdef int _finish(self, Ring ring, char *target, uint64_t kind, Py_ssize_t end, bint cut, uint64_t thread, uint64_t where) except -1
    cdef int begin(self, Activity activity) except -1
    cdef int end(self, Activity activity) except -1
    cdef int _log(self, object record) except -1
    cdef bint _arguments(self, object arguments) except -1
