"""What `lane.pyx` sees of `plain.pyx`."""

from cpython.object cimport PyObject
from libc.string cimport memcmp


cdef struct Text:
    # A text in the message: of printable ASCII, and as it stands in JSON.
    const char* chars
    Py_ssize_t size


cdef inline bint is_text(Text text, const char* chars, Py_ssize_t size) noexcept:
    """Whether the text is this one."""
    return text.size == size and memcmp(text.chars, chars, size) == 0


cdef struct Leg:
    PyObject* name  # the account's, owned by the Commands as all that is
    long long amount
    bint is_debit


cdef struct Post:
    # A plain posting. Where a text is not given its size is negative.
    PyObject* digest
    PyObject* context  # NULL: the plain one
    PyObject* metadata  # NULL: none
    const char* request_hash
    Text kind, actor, request_id, effective_at, currency
    Py_ssize_t first_leg
    int legs  # 0: it is not plain


cdef class Commands:
    cdef list raws
    cdef Py_ssize_t size
    cdef Post* posts
    cdef Leg* legs
    cdef Py_ssize_t leg_count, leg_room
    cdef readonly bint are_plain

    cdef int _read(self, Py_ssize_t place, const char* at, const char* end) except -1
    cdef int _read_legs(self, Post* post, const char** at, const char* end) except -1
    cdef const char* _read_leg(
        self, Post* post, Leg* leg, const char* at, const char* end
    ) except? NULL
    cdef int _make_room(self) except -1
    cdef void _drop_legs(self, Py_ssize_t first) noexcept
