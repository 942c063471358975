# cython: language_level=3
# The C side of _words.py: the same names and meanings. Other modules' .pxd files cimport from here.
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
    /* ASCII is its own UTF-8, and most texts are that: no call is needed. */
    static inline Py_ssize_t mm_utf8_size(PyObject *value, Py_ssize_t limit) {
        Py_ssize_t size;
        const char *data;
        if (PyUnicode_Check(value) && PyUnicode_IS_COMPACT_ASCII(value)) {
            size = PyUnicode_GET_LENGTH(value);
            return size <= limit ? size : limit;
        }
        data = PyUnicode_AsUTF8AndSize(value, &size);
        if (!data) return -1;
        if (size <= limit) return size;
        while (limit && ((unsigned char)data[limit] & 0xC0) == 0x80) limit--;
        return limit;
    }
    static inline const char *mm_utf8(PyObject *value, Py_ssize_t size) {
        (void)size;
        if (PyUnicode_IS_COMPACT_ASCII(value)) return (const char *)PyUnicode_1BYTE_DATA(value);
        return PyUnicode_AsUTF8AndSize(value, NULL);
    }
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
