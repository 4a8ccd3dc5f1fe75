# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The lane for plain postings: what most commands are, decided and gathered without detours.

Of the postings that `plain.pyx` finds plain it takes those that the book would post, and does then
exactly what `decide`, `encode`, `Batch.add` and `apply` do together; whatever is out of the ordinary
(a refusal, a replay, something imposed) it leaves, untouched, to the book, which stays the judge. That
both say the same, to the byte, is tested (`tests/simulation/test_lane_against_book.py`). Where it
can't be built the book does it all.
"""

import hashlib
from types import MemberDescriptorType

import msgspec
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItem
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdlib cimport malloc

from ledger_service.engine.plain cimport Commands, Leg, Post, Text, is_text
from ledger_service.engine.rows cimport Postings, added
from ledger_service.engine.put cimport (
    PyUnicode_AsUTF8AndSize,
    put,
    put_big,
    put_chars,
    put_column,
    put_hex,
    put_number,
    put_string,
)

from ledger_service.domain import memory, transaction
from ledger_service.domain.account import Account
from ledger_service.domain.decisions import When, when_it_counts
from ledger_service.engine.copy_format import columns, day_number, microseconds, text
from ledger_service.engine.protocol import Committed

cdef extern from "structmember.h":
    int T_OBJECT_EX
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef* d_member

cdef enum:
    EXTRAS = 8192  # bytes that a context or metadata may take
    DIGEST = 32

cdef object _sha256 = hashlib.sha256
cdef object _encode = msgspec.json.Encoder(order="deterministic").encode
cdef object _kinds = transaction.KINDS
cdef object _plain = transaction.PLAIN
cdef str _open = "open"
cdef str _type = "transaction.posted"

cdef char* _event = <char*>malloc(1 << 16)
"""Room for one event, which the bounds of a plain posting and EXTRAS keep far below EVENT_MAX_BYTES.
Nothing that the lane does gives up the processor while it is in use."""


cdef Py_ssize_t _place_of(str field) except -1:
    """Where an account keeps a field: a slot, as its class says by the means that Python gives.

    By name each access is a search through the class, and there are forty in a posting.
    """
    descriptor = Account.__dict__[field]
    if type(descriptor) is not MemberDescriptorType:
        raise ImportError("accounts keep their fields in another way than the lane knows")
    cdef PyMemberDef* member = (<PyMemberDescrObject*>descriptor).d_member
    if member.type != T_OBJECT_EX:
        raise ImportError("accounts keep their fields in another way than the lane knows")
    return member.offset


cdef Py_ssize_t NUMBER = _place_of("number")
cdef Py_ssize_t CURRENCY = _place_of("currency")
cdef Py_ssize_t DEBIT_NORMAL = _place_of("debit_normal")
cdef Py_ssize_t FLOOR = _place_of("floor")
cdef Py_ssize_t CEILING = _place_of("ceiling")
cdef Py_ssize_t STATUS = _place_of("status")
cdef Py_ssize_t DEBITS = _place_of("debits")
cdef Py_ssize_t CREDITS = _place_of("credits")
cdef Py_ssize_t VERSION = _place_of("version")


cdef inline object _get(object account, Py_ssize_t place):
    return <object>(<PyObject**>(<char*><PyObject*>account + place))[0]


cdef inline void _set(object account, Py_ssize_t place, object value) noexcept:
    cdef PyObject** slot = <PyObject**>(<char*><PyObject*>account + place)
    cdef PyObject* old = slot[0]
    Py_INCREF(value)
    slot[0] = <PyObject*>value
    Py_XDECREF(old)


cdef inline int _add(object account, Py_ssize_t place, long long amount) except -1:
    """Add to a sum, which may have grown past what a register holds."""
    cdef int is_large = 0
    cdef long long total
    before = _get(account, place)
    total = PyLong_AsLongLongAndOverflow(before, &is_large)
    if is_large or added(total, amount, &total):
        _set(account, place, before + amount)
    else:
        _set(account, place, total)
    return 0


cdef inline char* _put(char* at, bytes before, Text text) noexcept:
    return put_chars(put(at, before), text.chars, text.size)


cdef inline str _word(Text text):
    return PyUnicode_DecodeASCII(text.chars, text.size, NULL)


cdef class Lane:
    """Carries out plain postings on a book, at one moment, into one batch."""

    cdef object _book, _batch, _terms, _accounts, _keys, _now, _effective_at
    cdef str _ledger, _recorded_at, _kind, _day
    cdef bytes _head
    cdef long long _microseconds
    cdef int _day_number
    cdef object _sorted_kind, _sorted_context
    cdef list _sort
    """Where transactions of the kind and channel of the one before are gathered."""
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
        self._kind = ""

    def take(
        self, commands, Py_ssize_t start, Py_ssize_t until, bint with_events, list drafts
    ):
        """Carry out commands from `start` on while they are plain, none past `until`; their
        verdicts come to `drafts`. Gives the place of the first that is left."""
        cdef long long seq
        book = self._book
        if self._terms is None or book.accruals or type(commands) is not Commands:
            return start
        seq = book.seq
        while start < until and self._carry_out(commands, start, seq + 1, with_events, drafts):
            seq += 1
            start += 1
        if seq != book.seq:
            book.seq, book.recorded_at = seq, self._recorded_at
            self._batch.last_seq, self._batch.recorded_at = seq, self._recorded_at
        return start

    cdef bint _carry_out(
        self, Commands commands, Py_ssize_t place, long long seq, bint with_events, list drafts
    ) except -1:
        """Whether the command was plain, and is carried out."""
        cdef Post* post = &commands.posts[place]
        cdef Leg* legs = &commands.legs[post.first_leg]
        cdef list accounts
        cdef char* at
        cdef int leg
        if post.legs == 0 or PyDict_GetItem(self._keys, <object>post.digest) != NULL:
            return False
        kind = self._kind_of(post.kind)
        accounts = self._open_accounts(post, legs)
        if accounts is None or kind not in _kinds:
            return False
        context = _plain if post.context == NULL else <object>post.context
        metadata = {} if post.metadata == NULL else <object>post.metadata
        when = self._book.present if post.effective_at.size < 0 else None
        if when is None:
            effective_at = None if post.effective_at.size < 0 else _word(post.effective_at)
            when = when_it_counts(self._book, self._terms, effective_at, self._now)
        if type(when) is not When or (post.context != NULL or post.metadata != NULL) and (
            transaction.check_context(context)
            or transaction.check_metadata(metadata, self._terms.chart.metadata)
            or transaction.check_personal(context, metadata)
        ):
            return False
        at = self._put_event(post, legs, seq, <tuple>when, context, metadata)
        if at == NULL:
            return False
        raw = PyBytes_FromStringAndSize(_event + 1, at - _event - 1)
        leaf_hash = _sha256(PyBytes_FromStringAndSize(_event, at - _event)).digest()

        number, digest = seq, <object>post.digest
        request_hash = PyBytes_FromStringAndSize(post.request_hash, DIGEST)
        self._keys[digest] = (number, request_hash)
        self._types.append(_type)
        self._raws.append(raw)
        self._leaf_hashes.append(leaf_hash)
        self._digests.append(digest)
        self._key_seqs.append(number)
        self._request_hashes.append(request_hash)
        self._transactions.append(self._row_of(seq, (<tuple>when)[0], kind, context))
        if kind is not self._sorted_kind or context is not self._sorted_context:
            self._sorted_kind, self._sorted_context = kind, context
            self._sort = self._batch.sorts[kind, context.channel]
        self._sort.append(number)
        if (<tuple>when)[0] != self._recorded_at:
            self._batch.add_value_dated(number, (<tuple>when)[0])
        if metadata:
            self._batch.add_metadata(number, metadata)
        if (<tuple>when)[1] is not self._day:
            self._day, self._day_number = (<tuple>when)[1], day_number((<tuple>when)[1])
        for leg in range(post.legs):
            self._move(&legs[leg], accounts[leg], number, seq, leg)
        drafts.append(Committed(number, raw if with_events else b"", False))
        return True

    cdef str _kind_of(self, Text kind):
        """The kind as a string; mostly that of the posting before."""
        cdef Py_ssize_t size
        cdef const char* chars = PyUnicode_AsUTF8AndSize(self._kind, &size)
        if not is_text(kind, chars, size):
            self._kind = _word(kind)
        return self._kind

    cdef list _open_accounts(self, Post* post, Leg* legs):
        """The accounts moved, if all are open, in the posting's currency, and kept in their limits."""
        cdef void* found
        cdef bint is_limited = False
        cdef list accounts = []
        cdef const char* currency
        cdef Py_ssize_t size
        cdef int leg
        for leg in range(post.legs):
            found = <void*>PyDict_GetItem(self._accounts, <object>legs[leg].name)
            if found == NULL or type(<object>found) is not Account:
                return None
            account = <object>found
            currency = PyUnicode_AsUTF8AndSize(_get(account, CURRENCY), &size)
            if not is_text(post.currency, currency, size) or _get(account, STATUS) != _open:
                return None
            if _get(account, FLOOR) is not None or _get(account, CEILING) is not None:
                is_limited = True
            accounts.append(account)
        if is_limited and not self._within_limits(post, legs, accounts):
            return None
        return accounts

    cdef bint _within_limits(self, Post* post, Leg* legs, list accounts) except -1:
        """As `limits.check_limits`; not told where an account is moved more than once."""
        cdef int leg, other
        for leg in range(post.legs):
            account = accounts[leg]
            for other in range(leg):
                if accounts[other] is account:
                    return False
            if legs[leg].is_debit == _get(account, DEBIT_NORMAL):
                ceiling = _get(account, CEILING)
                if ceiling is not None and account.expected + legs[leg].amount > ceiling:
                    return False
            else:
                floor = _get(account, FLOOR)
                if floor is not None and account.secured - legs[leg].amount < floor:
                    return False
        return True

    cdef char* _put_event(
        self, Post* post, Leg* legs, long long seq, tuple when, context, metadata
    ) except? NULL:
        """The event's canonical bytes after the zero that makes them a leaf; NULL where a context or
        metadata is long. Gives their end."""
        cdef char* at = _event
        cdef bytes extra
        cdef int leg
        at = put_string(put(at, b'\0{"type":"transaction.posted","v":1,"ledger":"'), self._ledger)
        at = put_number(put(at, b'","seq":'), seq)
        at = put_string(put(at, b',"recorded_at":"'), self._recorded_at)
        at = _put(at, b'","actor":"', post.actor)
        if post.request_id.size >= 0:
            at = _put(at, b'","request_id":"', post.request_id)
        at = _put(at, b'","kind":"', post.kind)
        at = put_string(put(at, b'","effective_at":"'), when[0])
        at = put_string(put(at, b'","effective_date":"'), when[1])
        at = put_string(put(at, b'","business_date":"'), when[2])
        at = put(at, b'","entries":[')
        for leg in range(post.legs):
            at = put_string(put(at, b',{"account":"' if leg else b'{"account":"'), <object>legs[leg].name)
            at = put(at, b'","side":"debit","amount":"' if legs[leg].is_debit else b'","side":"credit","amount":"')
            at = put_number(at, legs[leg].amount)
            at = put(_put(at, b'","currency":"', post.currency), b'"}')
        extra = b"{}" if post.context == NULL else _encode(context)
        if len(extra) > EXTRAS:
            return NULL
        at = put(put(at, b'],"context":'), extra)
        if metadata:
            extra = _encode(metadata)
            if len(extra) > EXTRAS:
                return NULL
            at = put(put(at, b',"metadata":'), extra)
        return put(put_hex(put(at, b',"idempotency_digest":"'), <object>post.digest), b'"}')

    cdef bytes _row_of(self, long long seq, effective_at, kind, context):
        """As `copy_format.TransactionRow`."""
        cdef char row[1024]
        cdef char* at
        if effective_at is not self._effective_at:
            self._effective_at, self._microseconds = effective_at, microseconds(effective_at)
        at = put(row, self._head)
        at = put_big(put_big(at, 8, 4), seq, 8)
        at = put_big(put_big(at, 8, 4), self._microseconds, 8)
        at = put_column(put_column(at, kind), context.channel)
        at = put_column(put_column(at, context.counterparty), context.rail_reference)
        return PyBytes_FromStringAndSize(row, at - row)

    cdef int _move(self, Leg* leg, account, number, long long seq, int place) except -1:
        """Move an account by one entry, and gather what its readers get."""
        cdef void* found
        cdef Postings postings
        of = _get(account, NUMBER)
        found = <void*>PyDict_GetItem(self._postings, of)
        if found == NULL and PyDict_GetItem(self._versions, <object>leg.name) == NULL:
            self._versions[<object>leg.name] = _get(account, VERSION)
        _add(account, DEBITS if leg.is_debit else CREDITS, leg.amount)
        _set(account, VERSION, number)
        if found == NULL:
            postings = self._postings[of] = Postings()
        else:
            postings = <Postings>found
        postings.add(seq, place, leg.amount if leg.is_debit else -leg.amount, self._day_number)
        return 0


def lacks_of(book, list asked):
    """As `memory.lacks_of` of all commands of several requests; it is asked about what is not plain."""
    cdef set accounts = set(), digests = set()
    cdef list others = []
    cdef object keys = book.keys, known = book.accounts
    cdef Commands commands
    cdef Py_ssize_t place
    cdef Post* post
    cdef int leg
    for of_one in asked:
        if type(of_one) is not Commands:
            others += of_one
            continue
        commands = of_one
        for place in range(commands.size):
            post = &commands.posts[place]
            if post.legs == 0:
                others.append(commands[place])
            elif PyDict_GetItem(keys, <object>post.digest) == NULL:
                digests.add(<object>post.digest)
            for leg in range(post.legs):
                name = commands.legs[post.first_leg + leg].name
                if PyDict_GetItem(known, <object>name) == NULL:
                    accounts.add(<object>name)
    lacks = memory.lacks_of(book, others)
    lacks.accounts |= accounts
    lacks.digests |= digests
    return lacks
