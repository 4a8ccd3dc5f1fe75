"""Writing bytes at a place in memory; each gives the place behind what it wrote.

For `lane.pyx` and `rows.pyx`, who see to it that there is room.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL


cdef inline char* put_chars(char* at, const char* chars, Py_ssize_t size) noexcept:
    memcpy(at, chars, size)
    return at + size


cdef inline char* put(char* at, bytes content) noexcept:
    return put_chars(at, PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content))


cdef inline char* put_string(char* at, object text) except NULL:
    cdef Py_ssize_t size
    cdef const char* chars = PyUnicode_AsUTF8AndSize(text, &size)
    return put_chars(at, chars, size)


cdef inline char* put_hex(char* at, bytes content) noexcept:
    cdef const char* digits = "0123456789abcdef"
    cdef const unsigned char* byte = <const unsigned char*>PyBytes_AS_STRING(content)
    cdef Py_ssize_t place
    for place in range(PyBytes_GET_SIZE(content)):
        at[2 * place] = digits[byte[place] >> 4]
        at[2 * place + 1] = digits[byte[place] & 15]
    return at + 2 * PyBytes_GET_SIZE(content)


cdef inline char* put_number(char* at, unsigned long long number) noexcept:
    cdef char digits[20]
    cdef int size = 0
    while True:
        digits[size] = <char>(48 + number % 10)
        size += 1
        number //= 10
        if number == 0:
            break
    while size:
        size -= 1
        at[0] = digits[size]
        at += 1
    return at


cdef inline char* put_big(char* at, unsigned long long number, int width) noexcept:
    """A number in network order, as PostgreSQL takes it."""
    cdef int place
    for place in range(width):
        at[place] = <char>(number >> (8 * (width - 1 - place)))
    return at + width


cdef inline char* put_column(char* at, object value) except NULL:
    """A column of a short text, or of None, as PostgreSQL takes it."""
    cdef Py_ssize_t size
    cdef const char* chars
    if value is None:
        return put_big(at, 0xffffffff, 4)
    chars = PyUnicode_AsUTF8AndSize(value, &size)
    return put_chars(put_big(at, size, 4), chars, size)
