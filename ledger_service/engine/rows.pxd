"""What `lane.pyx` sees of `rows.pyx`."""

cdef extern from *:
    # Whether the sum, which is put in any case, has grown past a register.
    bint added "__builtin_add_overflow"(long long, long long, long long*) nogil


cdef struct Posting:
    long long seq
    long long amount
    int day
    short entry_no


cdef class Postings:
    cdef Posting* items
    cdef Py_ssize_t size, room

    cdef int add(self, long long seq, int entry_no, long long amount, int day) except -1
    cdef int _make_room(self, Py_ssize_t size) except -1
