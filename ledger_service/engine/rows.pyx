# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Rows for PostgreSQL, as `copy_format` says what they are: the same in a fraction of the time."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdlib cimport free, malloc

from ledger_service.engine.put cimport put, put_big, put_number

from ledger_service.engine.copy_format import columns, day_number, text


cdef inline char* _put_array(char* at, unsigned oid, int width, Py_ssize_t size) noexcept:
    """What stands before the elements of an array."""
    at = put_big(at, 20 + size * (4 + width), 4)
    at = put_big(put_big(at, 1, 4), 0, 4)
    at = put_big(put_big(at, oid, 4), size, 4)
    return put_big(at, 1, 4)


cdef class PostingRow:
    """As `copy_format.PostingRow`."""

    cdef bytes _head
    cdef object _day
    cdef long long _day_number

    def __init__(self, ledger):
        self._head = columns(7) + text(ledger)

    cpdef bytes encode(self, number, list postings):
        cdef Py_ssize_t size = len(postings), place, head = len(self._head)
        cdef Py_ssize_t length = head + 24 + 4 * 24 + size * (12 + 6 + 12 + 8)
        cdef char *at
        cdef char *seqs
        cdef char *entry_nos
        cdef char *amounts
        cdef char *days
        cdef tuple posting
        cdef bytes row = PyBytes_FromStringAndSize(NULL, length)
        at = put(PyBytes_AS_STRING(row), self._head)
        at = put_big(put_big(at, 8, 4), <long long>number, 8)
        at = put_big(put_big(at, 8, 4), <long long>(<tuple>postings[size - 1])[0], 8)
        seqs = _put_array(at, 20, 8, size)
        entry_nos = _put_array(seqs + size * 12, 21, 2, size)
        amounts = _put_array(entry_nos + size * 6, 20, 8, size)
        days = _put_array(amounts + size * 12, 1082, 4, size)
        for place in range(size):
            posting = <tuple>postings[place]
            seqs = put_big(put_big(seqs, 8, 4), <long long>posting[0], 8)
            entry_nos = put_big(put_big(entry_nos, 2, 4), <long long>posting[1], 2)
            amounts = put_big(put_big(amounts, 8, 4), <long long>posting[2], 8)
            if posting[3] is not self._day:
                self._day, self._day_number = posting[3], day_number(posting[3])
            days = put_big(put_big(days, 4, 4), self._day_number, 4)
        return row


def follow(PostingRow row, list accounts, list rows, list sums):
    """As `copy_format.follow`."""
    cdef list postings
    cdef tuple posting
    for number, of in accounts:
        postings = of
        rows.append(row.encode(number, postings))
        day, debits, credits_, by_day = (<tuple>postings[0])[3], 0, 0, None
        for posting in postings:
            if posting[3] != day:
                by_day = by_day or {}
                by_day[day] = debits, credits_
                day = posting[3]
                debits, credits_ = by_day.get(day, (0, 0))
            amount = posting[2]
            if amount > 0:
                debits += amount
            else:
                credits_ -= amount
        if by_day is None:
            sums.append((number, day, debits, credits_))
        else:
            by_day[day] = debits, credits_
            sums += [(number, of_day, *moved) for of_day, moved in by_day.items()]


cpdef str array(list numbers):
    """As `copy_format.array`."""
    cdef Py_ssize_t size = len(numbers), place
    cdef char* room = <char*>malloc(21 * size + 2)
    cdef char* at = room
    cdef int overflow = 0
    cdef long long value
    try:
        at[0] = c'{'
        at += 1
        for place in range(size):
            value = PyLong_AsLongLongAndOverflow(numbers[place], &overflow)
            if overflow:
                return "{" + ",".join(map(str, numbers)) + "}"
            if value < 0:
                at[0] = c'-'
                at += 1
            at = put_number(at, <unsigned long long>(-value if value < 0 else value))
            at[0] = c','
            at += 1
        if size:
            at -= 1
        at[0] = c'}'
        return PyUnicode_DecodeASCII(room, at - room + 1, NULL)
    finally:
        free(room)


def balance_arrays(list accounts, list expected):
    """As `copy_format.balance_arrays`."""
    cdef list numbers = [], versions = [], debits = [], credits_ = []
    cdef list pending_debits = [], pending_credits = []
    for account in accounts:
        numbers.append(account.number)
        versions.append(account.version)
        debits.append(account.debits)
        credits_.append(account.credits)
        pending_debits.append(account.pending_debits)
        pending_credits.append(account.pending_credits)
    return [
        array(numbers), array(expected), array(versions), array(debits), array(credits_),
        array(pending_debits), array(pending_credits),
    ]
