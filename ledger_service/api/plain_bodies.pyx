# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Plain transactions, from a body's JSON to the message that the writer reads, without an object between.

What most items of a batch are: a key, a kind and a few entries, in texts without escapes. Of such a
one the command's msgpack is written as it is read, which is the same that `posting_bodies` and
`post_transaction` lead to, to the byte; whatever has anything else in it, or is wrong in any way, is
left to them.
"""

import hashlib

import msgspec
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize

from ledger_service.engine.plain cimport Text, is_text
from ledger_service.engine.put cimport put, put_chars

cdef enum:
    ENTRIES = 15  # the most that a plain one has
    LONGEST = 255  # text
    ROOM = 20480  # for a message of so many entries with such texts

cdef object _sha256 = hashlib.sha256
cdef object _encode = msgspec.msgpack.encode

cdef bytes _HEAD = b"\x9f\xa4post\xc4\x20"
# In what is hashed, after the entries: no effective_at, context, metadata, imposed, corrects or rate.
cdef bytes _REST = b"\xc0\x80\x80\xc2\xc0\xc0"


cdef struct Entry:
    Text account, side, amount, currency


cdef inline const char* _gap(const char* at, const char* end) noexcept:
    """Over white space."""
    while at != NULL and at < end and (at[0] == c' ' or at[0] == c'\n' or at[0] == c'\r' or at[0] == c'\t'):
        at += 1
    return at


cdef inline const char* _sign(const char* at, const char* end, char wanted) noexcept:
    """Over a sign and white space around it; NULL where another one stands."""
    at = _gap(at, end)
    if at == NULL or at == end or at[0] != wanted:
        return NULL
    return _gap(at + 1, end)


cdef inline const char* _text(const char* at, const char* end, Text* text) noexcept:
    """Over a text in quotes; NULL where it is none, is escaped, not of ASCII, or long."""
    cdef unsigned char sign
    at = _gap(at, end)
    if at == NULL or at == end or at[0] != c'"':
        return NULL
    at += 1
    text.chars = at
    while at < end:
        sign = at[0]
        if sign == c'"':
            text.size = at - text.chars
            return at + 1 if text.size <= LONGEST else NULL
        if sign < 32 or sign > 126 or sign == c'\\':
            return NULL
        at += 1
    return NULL


cdef inline const char* _once(const char* at, const char* end, Text* text) noexcept:
    """Over the text of a field, which may come once."""
    return NULL if text.size >= 0 else _text(at, end, text)


cdef const char* _entry(const char* at, const char* end, Entry* entry) noexcept:
    """Over an entry of four texts; NULL where it is anything else."""
    cdef Text name
    cdef int left = 4
    entry.account.size = entry.side.size = entry.amount.size = entry.currency.size = -1
    at = _sign(at, end, c'{')
    while left and at != NULL:
        at = _sign(_text(at, end, &name), end, c':')
        if at == NULL:
            return NULL
        if is_text(name, b"account", 7):
            at = _once(at, end, &entry.account)
        elif is_text(name, b"side", 4):
            at = _once(at, end, &entry.side)
        elif is_text(name, b"amount", 6):
            at = _once(at, end, &entry.amount)
        elif is_text(name, b"currency", 8):
            at = _once(at, end, &entry.currency)
        else:
            return NULL
        left -= 1
        at = _sign(at, end, c',' if left else c'}')
    if at == NULL or not is_text(entry.side, b"debit", 5) and not is_text(entry.side, b"credit", 6):
        return NULL
    return at


cdef inline char* _put_text(char* at, Text text) noexcept:
    """As msgpack."""
    if text.size < 32:
        at[0] = <char>(0xa0 | text.size)
        return put_chars(at + 1, text.chars, text.size)
    at[0], at[1] = <char>0xd9, <char>text.size
    return put_chars(at + 2, text.chars, text.size)


cdef char* _put_content(char* at, Text kind, Entry* entries, int size, bint is_hashed) noexcept:
    """Kind and entries; what is hashed has an entry's fields in the order of their names."""
    cdef Entry* entry
    cdef int place
    at = _put_text(at, kind)
    at[0] = <char>(0x90 | size)
    at += 1
    for place in range(size):
        entry = &entries[place]
        at = _put_text(put(at, b"\x84\xa7account"), entry.account)
        if not is_hashed:
            at = _put_text(put(at, b"\xa4side"), entry.side)
        at = _put_text(put(at, b"\xa6amount"), entry.amount)
        at = _put_text(put(at, b"\xa8currency"), entry.currency)
        if is_hashed:
            at = _put_text(put(at, b"\xa4side"), entry.side)
    return at


cdef class PlainBodies:
    """Reads transactions for one ledger in the name of one caller."""

    cdef bytes _ledger, _tail

    def __init__(self, ledger, actor, request_id):
        self._ledger = ledger.encode() + b"\0"
        # actor, effective_at, context, metadata, imposed, request_id, dry_run, corrects, approval, rate
        self._tail = b"".join(
            (
                _encode(actor), b"\xc0\x80\x80\xc2", _encode(request_id), b"\xc2\xc0\xc0\xc0",
            )
        )

    def read(self, raw):
        """The command's msgpack, or None where the transaction is not plain. `raw`: its JSON."""
        cdef Py_buffer view
        PyObject_GetBuffer(raw, &view, PyBUF_SIMPLE)
        try:
            return self._read(<const char*>view.buf, <const char*>view.buf + view.len)
        finally:
            PyBuffer_Release(&view)

    cdef _read(self, const char* at, const char* end):
        cdef Entry entries[ENTRIES]
        cdef Text name, key, kind
        cdef int left = 3, size = 0
        key.size = kind.size = -1
        at = _sign(at, end, c'{')
        while left and at != NULL:
            at = _sign(_text(at, end, &name), end, c':')
            if at == NULL:
                return None
            if is_text(name, b"idempotency_key", 15):
                at = _once(at, end, &key)
            elif is_text(name, b"kind", 4):
                at = _once(at, end, &kind)
            elif is_text(name, b"entries", 7) and size == 0:
                at = _sign(at, end, c'[')
                while at != NULL:
                    if size == ENTRIES:
                        return None
                    at = _entry(at, end, &entries[size])
                    size += 1
                    if at == NULL or at == end or at[0] != c',':
                        break
                    at += 1
                at = _sign(at, end, c']')
            else:
                return None
            left -= 1
            at = _sign(at, end, c',' if left else c'}')
        if at != end or key.size < 1 or size == 0:
            return None
        return self._message(key, kind, entries, size)

    cdef _message(self, Text key, Text kind, Entry* entries, int size):
        cdef char room[ROOM]
        cdef char* at
        digest = _sha256(self._ledger + PyBytes_FromStringAndSize(key.chars, key.size)).digest()
        room[0] = <char>0x98
        at = put(_put_content(room + 1, kind, entries, size, True), _REST)
        hashed = _sha256(PyBytes_FromStringAndSize(room, at - room)).digest()
        at = put(put(put(put(room, _HEAD), digest), b"\xc4\x20"), hashed)
        at = _put_content(at, kind, entries, size, False)
        if at - room + len(self._tail) > ROOM:
            return None
        at = put(at, self._tail)
        return PyBytes_FromStringAndSize(room, at - room)
