# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Commands as they came over the line, and the plain postings among them read where they stand.

A posting is plain when nothing about it needs the book's judgement beyond the accounts themselves:
a few entries in one currency that balance, texts that JSON writes as they are, nothing imposed, tried
or corrected. Of such a one no object is made but its key's digest and its accounts' names: the lane
takes the rest from the message. All others are decoded as the protocol says, which refuses what is
malformed; so is a plain one where somebody wants it as a command.
"""

import msgspec
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp

from ledger_service.contract.context import Context
from ledger_service.domain.commands import decode_command

cdef extern from *:
    ctypedef long long int128 "__int128_t"

cdef enum:
    ENTRIES = 15  # the most that a plain posting has
    DIGEST = 32  # bytes, as of a request's hash
    HEAD = 8

cdef object _decode = decode_command
cdef object _decode_context = msgspec.msgpack.Decoder(Context).decode
cdef object _decode_metadata = msgspec.msgpack.Decoder(dict[str, str]).decode

# Fifteen fields, of which the tag is one; then a digest. Entries follow the protocol's order of fields.
cdef const char* _HEAD = b"\x9f\xa4post\xc4\x20"
cdef const char* _BYTES = b"\xc4\x20"
cdef const char* _IMPOSED = b"\xc2"
cdef const char* _REST = b"\xc2\xc0\xc0\xc0"  # dry_run, corrects, approval, rate: none of them


cdef inline PyObject* _own(object made) noexcept:
    Py_INCREF(made)
    return <PyObject*>made


cdef inline const char* _expect(
    const char* at, const char* end, const char* wanted, Py_ssize_t size
) noexcept:
    """The place behind what was wanted; NULL where something else stands, or `at` is it already."""
    if at == NULL or end - at < size or memcmp(at, wanted, size) != 0:
        return NULL
    return at + size


cdef inline const char* _text(const char* at, const char* end, Text* text) noexcept:
    """A text; NULL where it is none, or not a plain one."""
    cdef Py_ssize_t place
    cdef unsigned char sign
    if at == NULL or at >= end:
        return NULL
    sign = at[0]
    if 0xa0 <= sign <= 0xbf:
        text.size = sign - 0xa0
        at += 1
    elif sign == 0xd9 and end - at >= 2:
        text.size = <unsigned char>at[1]
        at += 2
    else:
        return NULL
    if end - at < text.size:
        return NULL
    text.chars = at
    for place in range(text.size):
        sign = at[place]
        if sign < 32 or sign > 126 or sign == c'"' or sign == c'\\':
            return NULL
    return at + text.size


cdef inline const char* _text_or_nothing(const char* at, const char* end, Text* text) noexcept:
    if at != NULL and at < end and <unsigned char>at[0] == 0xc0:
        text.size = -1
        return at + 1
    return _text(at, end, text)


cdef inline const char* _pairs(const char* at, const char* end) noexcept:
    """Over a map of plain texts, of which a value may be nothing."""
    cdef Text text
    cdef int left
    if at == NULL or at >= end or <unsigned char>at[0] & 0xf0 != 0x80:
        return NULL
    left = <unsigned char>at[0] & 0x0f
    at += 1
    while left and at != NULL:
        at = _text_or_nothing(_text(at, end, &text), end, &text)
        left -= 1
    return at


cdef inline long long _amount(Text text) noexcept:
    """Minor units of an amount as an entry has it; -1 where it is none that may be posted."""
    cdef Py_ssize_t place
    cdef unsigned long long amount = 0
    if text.size == 0 or text.size > 19 or text.chars[0] == c'0':
        return -1
    for place in range(text.size):
        if text.chars[place] < c'0' or text.chars[place] > c'9':
            return -1
        amount = 10 * amount + <unsigned>(text.chars[place] - c'0')
    return <long long>amount  # nineteen digits are below 2^64: past what may be posted it is negative


cdef class Commands:
    """A sequence of the commands of one request. Errors: msgspec.ValidationError, DecodeError."""

    def __cinit__(self, list raws):
        self.size = len(raws)
        self.leg_room = 2 * self.size
        self.posts = <Post*>calloc(self.size + 1, sizeof(Post))
        self.legs = <Leg*>calloc(self.leg_room + 1, sizeof(Leg))
        if self.posts == NULL or self.legs == NULL:
            raise MemoryError

    def __init__(self, list raws):
        """`raws`: msgspec.Raw of each command, in msgpack."""
        cdef Py_buffer view
        cdef Py_ssize_t place
        self.raws = raws
        self.are_plain = True
        for place in range(self.size):
            raw = raws[place]
            PyObject_GetBuffer(raw, &view, PyBUF_SIMPLE)
            try:
                self._read(place, <const char*>view.buf, <const char*>view.buf + view.len)
            finally:
                PyBuffer_Release(&view)  # what it shows stays as long as the Raw does
            if not self.posts[place].legs:
                self.are_plain = False
                raws[place] = _decode(raw)

    def __dealloc__(self):
        cdef Py_ssize_t place
        for place in range(self.size if self.posts != NULL else 0):
            Py_XDECREF(self.posts[place].digest)
            Py_XDECREF(self.posts[place].context)
            Py_XDECREF(self.posts[place].metadata)
        for place in range(self.leg_count):
            Py_XDECREF(self.legs[place].name)
        free(self.posts)
        free(self.legs)

    def __len__(self):
        return self.size

    def __getitem__(self, Py_ssize_t place):
        if not 0 <= place < self.size:
            raise IndexError(place)
        return _decode(self.raws[place]) if self.posts[place].legs else self.raws[place]

    cdef int _read(self, Py_ssize_t place, const char* at, const char* end) except -1:
        """Read a command, if it is a plain posting; otherwise its post stays without legs."""
        cdef Post* post = &self.posts[place]
        cdef const char* digest
        cdef const char* context
        cdef const char* metadata
        cdef const char* behind
        cdef int legs
        at = _expect(at, end, _HEAD, HEAD)
        if at == NULL or end - at < DIGEST:
            return 0
        digest, at = at, _expect(at + DIGEST, end, _BYTES, 2)
        if at == NULL or end - at < DIGEST:
            return 0
        post.request_hash, at = at, _text(at + DIGEST, end, &post.kind)
        post.first_leg = self.leg_count
        legs = self._read_legs(post, &at, end)
        context = _text_or_nothing(_text(at, end, &post.actor), end, &post.effective_at)
        metadata = _pairs(context, end)
        behind = _pairs(metadata, end)
        at = _text_or_nothing(_expect(behind, end, _IMPOSED, 1), end, &post.request_id)
        if not legs or at == NULL or end - at != 4 or memcmp(at, _REST, 4) != 0:
            self._drop_legs(post.first_leg)
            return 0
        post.digest = _own(PyBytes_FromStringAndSize(digest, DIGEST))
        if metadata - context > 1:
            post.context = _own(_decode_context(PyBytes_FromStringAndSize(context, metadata - context)))
        if behind - metadata > 1:
            post.metadata = _own(_decode_metadata(PyBytes_FromStringAndSize(metadata, behind - metadata)))
        post.legs = legs
        return 0

    cdef int _read_legs(self, Post* post, const char** at, const char* end) except -1:
        """How many entries there are, which must be plain and balance; 0: they don't."""
        cdef const char* here = at[0]
        cdef int128 total = 0
        cdef int count, left
        cdef Leg* leg
        if here == NULL or here == end:
            return 0
        count = <unsigned char>here[0] - 0x90
        if not 2 <= count <= ENTRIES:
            return 0
        if self.leg_count + count > self.leg_room:
            self._make_room()
        here += 1
        post.currency.size = -1
        for left in range(count):
            leg = &self.legs[self.leg_count]
            here = self._read_leg(post, leg, here, end)
            if here == NULL:
                return 0
            self.leg_count += 1
            total += leg.amount if leg.is_debit else -leg.amount
        at[0] = here
        return count if total == 0 else 0

    cdef const char* _read_leg(
        self, Post* post, Leg* leg, const char* at, const char* end
    ) except? NULL:
        """The place behind an entry; NULL where it is not plain."""
        cdef Text name, side, amount, currency
        at = _text(_expect(at, end, b"\x84\xa7account", 9), end, &name)
        at = _text(_expect(at, end, b"\xa4side", 5), end, &side)
        at = _text(_expect(at, end, b"\xa6amount", 7), end, &amount)
        at = _text(_expect(at, end, b"\xa8currency", 9), end, &currency)
        if at == NULL:
            return NULL
        leg.amount, leg.is_debit = _amount(amount), is_text(side, b"debit", 5)
        if leg.amount < 0 or not leg.is_debit and not is_text(side, b"credit", 6):
            return NULL
        if post.currency.size < 0:
            post.currency = currency
        elif not is_text(currency, post.currency.chars, post.currency.size):
            return NULL
        leg.name = _own(PyUnicode_DecodeASCII(name.chars, name.size, NULL))
        return at

    cdef int _make_room(self) except -1:
        cdef Py_ssize_t room = 2 * self.leg_room + ENTRIES
        cdef void* legs = realloc(self.legs, room * sizeof(Leg))
        if legs == NULL:
            raise MemoryError
        self.legs, self.leg_room = <Leg*>legs, room
        return 0

    cdef void _drop_legs(self, Py_ssize_t first) noexcept:
        while self.leg_count > first:
            self.leg_count -= 1
            Py_XDECREF(self.legs[self.leg_count].name)
