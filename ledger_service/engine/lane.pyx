# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The lane for plain postings: what most commands are, decided and gathered without detours.

It takes a posting only where the book would say yes, and does then exactly what `decide`, `encode`,
`Batch.add` and `apply` do together; whatever is out of the ordinary (a refusal, a replay, a second
currency, something imposed) it leaves, untouched, to the book, which stays the judge. That both say
the same, to the byte, is tested (`tests/simulation/test_lane_against_book.py`). Where it can't be
built the book does it all.
"""

import hashlib

import msgspec
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.unicode cimport PyUnicode_DecodeASCII
from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ledger_service.domain import memory, transaction
from ledger_service.domain.commands import PostTransaction
from ledger_service.domain.decisions import When, when_it_counts
from ledger_service.domain.limits import check_limits
from ledger_service.engine.copy_format import columns, day_number, microseconds, text
from ledger_service.engine.protocol import Committed

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef extern from *:
    ctypedef long long int128 "__int128_t"

DEF ENTRIES = 16
DEF TEXT = 256
DEF EXTRAS = 8192

cdef object _sha256 = hashlib.sha256
cdef object _encode = msgspec.json.Encoder(order="deterministic").encode
cdef object _kinds = transaction.KINDS
cdef object _plain = transaction.PLAIN
cdef const char* _HEX = "0123456789abcdef"
cdef bytes _DEBIT = b'","side":"debit","amount":"'
cdef bytes _CREDIT = b'","side":"credit","amount":"'
cdef str _open = "open"
cdef str _type = "transaction.posted"

cdef char* _event = <char*>malloc(1 << 16)
"""Room for one event, which ENTRIES, TEXT and EXTRAS keep far below EVENT_MAX_BYTES. Nothing that the
lane does gives up the processor while it is in use."""


# --- bytes --------------------------------------------------------------------------------------

cdef inline char* _put(char* at, bytes content) noexcept:
    memcpy(at, PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content))
    return at + PyBytes_GET_SIZE(content)


cdef inline char* _put_text(char* at, object text) except? NULL:
    """The text as it stands in JSON; NULL where JSON would write it otherwise, or it is long."""
    cdef Py_ssize_t size, i
    cdef const char* chars
    cdef unsigned char sign
    if not PyUnicode_IS_COMPACT_ASCII(text):
        return NULL
    chars = PyUnicode_AsUTF8AndSize(text, &size)
    if size > TEXT:
        return NULL
    for i in range(size):
        sign = chars[i]
        if sign < 32 or sign == c'"' or sign == c'\\':
            return NULL
        at[i] = sign
    return at + size


cdef inline char* _put_field(char* at, bytes before, object text) except? NULL:
    """What stands before a text, and the text; NULL as `_put_text`, or where `at` is it already."""
    return NULL if at == NULL else _put_text(_put(at, before), text)


cdef inline char* _put_hex(char* at, bytes content) noexcept:
    cdef const unsigned char* byte = <const unsigned char*>PyBytes_AS_STRING(content)
    cdef Py_ssize_t place
    for place in range(PyBytes_GET_SIZE(content)):
        at[2 * place] = _HEX[byte[place] >> 4]
        at[2 * place + 1] = _HEX[byte[place] & 15]
    return at + 2 * PyBytes_GET_SIZE(content)


cdef inline char* _put_number(char* at, unsigned long long number) noexcept:
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


cdef inline long long _amount(object text) except? -1:
    """Minor units of an amount as an entry has it; -1 where it is none that may be posted."""
    cdef Py_ssize_t size, i
    cdef const char* digits
    cdef unsigned long long amount = 0
    if not PyUnicode_IS_COMPACT_ASCII(text):
        return -1
    digits = PyUnicode_AsUTF8AndSize(text, &size)
    if size == 0 or size > 19 or digits[0] == c'0':
        return -1
    for i in range(size):
        if digits[i] < c'0' or digits[i] > c'9':
            return -1
        amount = 10 * amount + <unsigned>(digits[i] - c'0')
    return <long long>amount if amount <= 0x7fffffffffffffffULL else -1


cdef inline char* _put_big(char* at, unsigned long long number, int width) noexcept:
    """A number in network order, as PostgreSQL takes it."""
    cdef int place
    for place in range(width):
        at[place] = <char>(number >> (8 * (width - 1 - place)))
    return at + width


cdef inline char* _put_column(char* at, object value) except NULL:
    """A column of a short text, or of None, as PostgreSQL takes it."""
    cdef Py_ssize_t size
    cdef const char* chars
    if value is None:
        return _put_big(at, 0xffffffff, 4)
    chars = PyUnicode_AsUTF8AndSize(value, &size)
    at = _put_big(at, size, 4)
    memcpy(at, chars, size)
    return at + size


# --- deciding -----------------------------------------------------------------------------------

cdef class Lane:
    """Carries out plain postings on a book, at one moment, into one batch."""

    cdef object _book, _batch, _terms, _accounts, _keys, _now, _effective_at
    cdef str _ledger, _recorded_at
    cdef bytes _head
    cdef long long _microseconds
    cdef list _raws, _leaf_hashes, _types, _digests, _key_seqs, _request_hashes, _transactions
    cdef dict _versions, _postings

    def __init__(self, book, batch, now):
        self._book, self._batch, self._now = book, batch, now
        self._recorded_at = book.at(now)
        self._ledger, self._terms = book.ledger, book.terms
        self._accounts, self._keys = book.accounts, book.keys
        self._raws, self._leaf_hashes, self._types = batch.raws, batch.leaf_hashes, batch.types
        self._digests, self._key_seqs = batch.digests, batch.key_seqs
        self._request_hashes, self._transactions = batch.request_hashes, batch.transactions
        self._versions, self._postings = batch.versions, batch.postings
        self._head = columns(7) + text(book.ledger)

    def take(self, list commands, Py_ssize_t start, Py_ssize_t until, bint with_events, list drafts):
        """Carry out commands from `start` on while they are plain, none past `until`; their verdicts
        come to `drafts`. Gives the place of the first that is left."""
        cdef long long seq
        book = self._book
        if self._terms is None or book.accruals:
            return start
        seq = book.seq
        while start < until and self._carry_out(commands[start], seq + 1, with_events, drafts):
            seq += 1
            start += 1
        if seq != book.seq:
            book.seq, book.recorded_at = seq, self._recorded_at
            self._batch.last_seq, self._batch.recorded_at = seq, self._recorded_at
        return start

    cdef bint _carry_out(self, command, long long seq, bint with_events, list drafts) except -1:
        """Whether the command was plain, and is carried out."""
        cdef long long amounts[ENTRIES]
        cdef bint debits[ENTRIES]
        cdef Py_ssize_t size, place
        cdef char* at
        cdef list entries, accounts
        if type(command) is not PostTransaction:
            return False
        entries, digest, kind = command.entries, command.digest, command.kind
        size = len(entries)
        if (
            size < 2 or size > ENTRIES or command.imposed or command.dry_run
            or command.corrects is not None or command.approval is not None
            or command.rate is not None
            or PyDict_GetItem(self._keys, digest) != NULL or kind not in _kinds
        ):
            return False
        accounts = self._plain_accounts(entries, size, amounts, debits)
        if accounts is None:
            return False
        context, metadata = command.context, command.metadata
        if context == _plain:
            context = None
        when = self._book.present if command.effective_at is None else None
        if when is None:
            when = when_it_counts(self._book, self._terms, command.effective_at, self._now)
        if type(when) is not When or (context is not None or metadata) and (
            transaction.check_context(command.context)
            or transaction.check_metadata(metadata, self._terms.chart.metadata)
            or transaction.check_personal(command.context, metadata)
        ):
            return False
        at = self._put_event(command, seq, kind, <tuple>when, entries, context, metadata, digest)
        if at == NULL:
            return False
        raw = PyBytes_FromStringAndSize(_event + 1, at - _event - 1)
        leaf_hash = _sha256(PyBytes_FromStringAndSize(_event, at - _event)).digest()

        number = seq
        request_hash = command.request_hash
        self._keys[digest] = (number, request_hash)
        self._types.append(_type)
        self._raws.append(raw)
        self._leaf_hashes.append(leaf_hash)
        self._digests.append(digest)
        self._key_seqs.append(number)
        self._request_hashes.append(request_hash)
        self._transactions.append(self._row_of(seq, (<tuple>when)[0], kind, command.context))
        if metadata:
            self._batch.add_metadata(number, metadata)
        for place in range(size):
            self._move(entries[place], accounts[place], number, place, amounts[place], debits[place], (<tuple>when)[1])
        drafts.append(Committed(number, raw if with_events else b"", False))
        return True

    cdef list _plain_accounts(self, list entries, Py_ssize_t size, long long* amounts, bint* debits):
        """The entries' accounts, if all is plain: open, in one currency, balanced, within limits."""
        cdef Py_ssize_t place
        cdef void* found
        cdef long long amount
        cdef int128 total = 0
        cdef bint is_limited = False
        cdef list accounts = []
        currency = None
        for place in range(size):
            entry = entries[place]
            amount = _amount(entry.amount)
            found = <void*>PyDict_GetItem(self._accounts, entry.account)
            if amount < 0 or found == NULL:
                return None
            account = <object>found
            if currency is None:
                currency = account.currency
            if entry.currency != currency or account.currency != currency or account.status != _open:
                return None
            amounts[place], debits[place] = amount, entry.side == "debit"
            total += amount if debits[place] else -amount
            if account.floor is not None or account.ceiling is not None:
                is_limited = True
            accounts.append(account)
        if total != 0 or is_limited and not self._within_limits(entries, accounts, amounts, debits):
            return None
        return accounts

    cdef bint _within_limits(self, list entries, list accounts, long long* amounts, bint* debits) except -1:
        """As `limits.check_limits`, which is asked where an account is moved more than once."""
        cdef Py_ssize_t place, other, size = len(accounts)
        cdef bint rises
        for place in range(size):
            account = accounts[place]
            for other in range(place):
                if accounts[other] is account:
                    return check_limits(entries, self._accounts) is None
        for place in range(size):
            account = accounts[place]
            rises = debits[place] == account.debit_normal
            if not rises:
                floor = account.floor
                if floor is not None and account.secured - amounts[place] < floor:
                    return False
            else:
                ceiling = account.ceiling
                if ceiling is not None and account.expected + amounts[place] > ceiling:
                    return False
        return True

    cdef char* _put_event(
        self, command, long long seq, kind, tuple when, list entries, context, metadata, bytes digest
    ) except? NULL:
        """The event's canonical bytes after the zero that makes them a leaf; NULL where a text is not
        as it would stand in JSON. `context`: None for the plain one. Gives their end."""
        cdef char* at = _event
        cdef bytes extra
        at = _put_field(at, b'\0{"type":"transaction.posted","v":1,"ledger":"', self._ledger)
        if at != NULL:
            at = _put_number(_put(at, b'","seq":'), seq)
        at = _put_field(at, b',"recorded_at":"', self._recorded_at)
        at = _put_field(at, b'","actor":"', command.actor)
        request_id = command.request_id
        if request_id is not None:
            at = _put_field(at, b'","request_id":"', request_id)
        at = _put_field(at, b'","kind":"', kind)
        at = _put_field(at, b'","effective_at":"', when[0])
        at = _put_field(at, b'","effective_date":"', when[1])
        at = _put_field(at, b'","business_date":"', when[2])
        at = self._put_entries(at, entries)
        if at == NULL:
            return NULL
        extra = b"{}" if context is None else _encode(context)
        if len(extra) > EXTRAS:
            return NULL
        at = _put(_put(at, b'],"context":'), extra)
        if metadata:
            extra = _encode(metadata)
            if len(extra) > EXTRAS:
                return NULL
            at = _put(_put(at, b',"metadata":'), extra)
        return _put(_put_hex(_put(at, b',"idempotency_digest":"'), digest), b'"}')

    cdef char* _put_entries(self, char* at, list entries) except? NULL:
        """The entries as JSON, up to the bracket that ends them; NULL as `_put_event`."""
        cdef bytes before = b'","entries":[{"account":"'
        for entry in entries:
            at = _put_field(at, before, entry.account)
            at = _put_field(at, _DEBIT if entry.side == "debit" else _CREDIT, entry.amount)
            at = _put_field(at, b'","currency":"', entry.currency)
            before = b'"},{"account":"'
        return NULL if at == NULL else _put(at, b'"}')

    cdef bytes _row_of(self, long long seq, effective_at, kind, context):
        """As `copy_format.TransactionRow`."""
        cdef char row[1024]
        cdef char* at
        if effective_at is not self._effective_at:
            self._effective_at, self._microseconds = effective_at, microseconds(effective_at)
        at = _put(row, self._head)
        at = _put_big(_put_big(at, 8, 4), seq, 8)
        at = _put_big(_put_big(at, 8, 4), self._microseconds, 8)
        at = _put_column(_put_column(at, kind), context.channel)
        at = _put_column(_put_column(at, context.counterparty), context.rail_reference)
        return PyBytes_FromStringAndSize(row, at - row)

    cdef int _move(
        self, entry, account, number, Py_ssize_t place, long long amount, bint is_debit, day
    ) except -1:
        """Move an account by one entry, and gather what its readers get."""
        cdef void* found
        cdef list postings
        of = account.number
        found = <void*>PyDict_GetItem(self._postings, of)
        if found == NULL and PyDict_GetItem(self._versions, entry.account) == NULL:
            self._versions[entry.account] = account.version
        if is_debit:
            account.debits = account.debits + amount
        else:
            account.credits = account.credits + amount
        account.version = number
        posting = (number, place, amount if is_debit else -amount, day)
        if found == NULL:
            self._postings[of] = [posting]
        else:
            postings = <list>found
            postings.append(posting)
        return 0


def lacks_of(book, list commands):
    """As `memory.lacks_of`, which is asked about all that is not a posting."""
    cdef set accounts = set(), digests = set()
    cdef list others = []
    cdef object keys = book.keys, known = book.accounts
    for command in commands:
        if type(command) is not PostTransaction or command.imposed or command.corrects is not None:
            others.append(command)
            continue
        digest = command.digest
        if PyDict_GetItem(keys, digest) == NULL:
            digests.add(digest)
        for entry in <list>command.entries:
            name = entry.account
            if PyDict_GetItem(known, name) == NULL:
                accounts.add(name)
    lacks = memory.lacks_of(book, others)
    lacks.accounts |= accounts
    lacks.digests |= digests
    return lacks


# --- rows of what follows -----------------------------------------------------------------------

cdef inline char* _put_array(char* at, unsigned oid, int width, Py_ssize_t size) noexcept:
    """What stands before the elements of an array."""
    at = _put_big(at, 20 + size * (4 + width), 4)
    at = _put_big(_put_big(at, 1, 4), 0, 4)
    at = _put_big(_put_big(at, oid, 4), size, 4)
    return _put_big(at, 1, 4)


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
        at = _put(PyBytes_AS_STRING(row), self._head)
        at = _put_big(_put_big(at, 8, 4), <long long>number, 8)
        at = _put_big(_put_big(at, 8, 4), <long long>(<tuple>postings[size - 1])[0], 8)
        seqs = _put_array(at, 20, 8, size)
        entry_nos = _put_array(seqs + size * 12, 21, 2, size)
        amounts = _put_array(entry_nos + size * 6, 20, 8, size)
        days = _put_array(amounts + size * 12, 1082, 4, size)
        for place in range(size):
            posting = <tuple>postings[place]
            seqs = _put_big(_put_big(seqs, 8, 4), <long long>posting[0], 8)
            entry_nos = _put_big(_put_big(entry_nos, 2, 4), <long long>posting[1], 2)
            amounts = _put_big(_put_big(amounts, 8, 4), <long long>posting[2], 8)
            if posting[3] is not self._day:
                self._day, self._day_number = posting[3], day_number(posting[3])
            days = _put_big(_put_big(days, 4, 4), self._day_number, 4)
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


cdef str _array(list numbers):
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
            at = _put_number(at, <unsigned long long>(-value if value < 0 else value))
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
        _array(numbers), _array(expected), _array(versions), _array(debits), _array(credits_),
        _array(pending_debits), _array(pending_credits),
    ]
