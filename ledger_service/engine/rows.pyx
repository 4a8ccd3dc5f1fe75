# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Rows for PostgreSQL, as `copy_format` says what they are: the same in a fraction of the time."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from ledger_service.engine.put cimport put, put_big, put_number

from ledger_service.engine.copy_format import columns, day_number, day_sums, day_text, text


cdef inline char* _put_array(char* at, unsigned oid, int width, Py_ssize_t size) noexcept:
    """What stands before the elements of an array."""
    at = put_big(at, 20 + size * (4 + width), 4)
    at = put_big(put_big(at, 1, 4), 0, 4)
    at = put_big(put_big(at, oid, 4), size, 4)
    return put_big(at, 1, 4)


cdef class Postings:
    """As a list of `copy_format.Posting`: the entries of one account, here without an object for each."""

    def __init__(self, postings=()):
        for posting in postings:
            self.append(posting)

    def __dealloc__(self):
        free(self.items)

    cdef int add(self, long long seq, int entry_no, long long amount, int day) except -1:
        """Append an entry; `day` as PostgreSQL counts it."""
        cdef Posting* posting
        if self.size == self.room:
            self._make_room(self.size + 1)
        posting = &self.items[self.size]
        posting.seq, posting.entry_no, posting.amount, posting.day = seq, entry_no, amount, day
        self.size += 1
        return 0

    cdef int _make_room(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t room = max(2, 2 * self.room, size)
        cdef void* items = realloc(self.items, room * sizeof(Posting))
        if items == NULL:
            raise MemoryError
        self.items, self.room = <Posting*>items, room
        return 0

    def append(self, tuple posting):
        seq, entry_no, amount, day = posting
        self.add(seq, entry_no, amount, day_number(day))

    def copy(self):
        cdef Postings made = Postings()
        made += self
        return made

    def __iadd__(self, Postings others):
        if self.size + others.size > self.room:
            self._make_room(self.size + others.size)
        memcpy(&self.items[self.size], others.items, others.size * sizeof(Posting))
        self.size += others.size
        return self

    def __len__(self):
        return self.size

    def __iter__(self):
        cdef Py_ssize_t place
        for place in range(self.size):
            yield (
                self.items[place].seq, self.items[place].entry_no, self.items[place].amount,
                day_text(self.items[place].day),
            )

    def __eq__(self, other):
        return list(self) == list(other)


cdef class PostingRow:
    """As `copy_format.PostingRow`."""

    cdef bytes _head

    def __init__(self, ledger):
        self._head = columns(7) + text(ledger)

    cpdef bytes encode(self, number, Postings postings):
        cdef Py_ssize_t size = postings.size, place, head = len(self._head)
        cdef Py_ssize_t length = head + 24 + 4 * 24 + size * (12 + 6 + 12 + 8)
        cdef char *at
        cdef char *seqs
        cdef char *entry_nos
        cdef char *amounts
        cdef char *days
        cdef Posting* posting
        cdef bytes row = PyBytes_FromStringAndSize(NULL, length)
        at = put(PyBytes_AS_STRING(row), self._head)
        at = put_big(put_big(at, 8, 4), <long long>number, 8)
        at = put_big(put_big(at, 8, 4), postings.items[size - 1].seq, 8)
        seqs = _put_array(at, 20, 8, size)
        entry_nos = _put_array(seqs + size * 12, 21, 2, size)
        amounts = _put_array(entry_nos + size * 6, 20, 8, size)
        days = _put_array(amounts + size * 12, 1082, 4, size)
        for place in range(size):
            posting = &postings.items[place]
            seqs = put_big(put_big(seqs, 8, 4), posting.seq, 8)
            entry_nos = put_big(put_big(entry_nos, 2, 4), posting.entry_no, 2)
            amounts = put_big(put_big(amounts, 8, 4), posting.amount, 8)
            days = put_big(put_big(days, 4, 4), posting.day, 4)
        return row


def follow(PostingRow row, list accounts, list rows, list sums):
    """As `copy_format.follow`."""
    cdef Postings postings
    for number, of in accounts:
        postings = of
        rows.append(row.encode(number, postings))
        if not _sum_of_day(number, postings, sums):
            sums += day_sums(number, postings)


cdef bint _sum_of_day(number, Postings postings, list sums) except -1:
    """Whether one sum says it all: of one day, and no larger than a register."""
    cdef long long debits = 0, credits_ = 0
    cdef Py_ssize_t place
    cdef Posting* posting
    for place in range(postings.size):
        posting = &postings.items[place]
        if posting.day != postings.items[0].day or (
            added(debits, posting.amount, &debits) if posting.amount > 0
            else added(credits_, -posting.amount, &credits_)
        ):
            return False
    sums.append((number, day_text(postings.items[0].day), debits, credits_))
    return True


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
