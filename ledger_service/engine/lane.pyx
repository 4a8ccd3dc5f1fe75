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
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from libc.stdlib cimport malloc

from ledger_service.engine.put cimport (
    PyUnicode_AsUTF8AndSize,
    PyUnicode_IS_COMPACT_ASCII,
    put,
    put_big,
    put_column,
    put_field,
    put_hex,
    put_number,
)

from ledger_service.domain import memory, transaction
from ledger_service.domain.commands import PostTransaction
from ledger_service.domain.decisions import When, when_it_counts
from ledger_service.domain.limits import check_limits
from ledger_service.engine.copy_format import columns, microseconds, text
from ledger_service.engine.protocol import Committed

cdef extern from *:
    ctypedef long long int128 "__int128_t"

cdef enum:
    ENTRIES = 16  # the most that a plain posting has
    EXTRAS = 8192  # bytes that a context or metadata may take
    DIGEST = 32

cdef object _sha256 = hashlib.sha256
cdef object _encode = msgspec.json.Encoder(order="deterministic").encode
cdef object _kinds = transaction.KINDS
cdef object _plain = transaction.PLAIN
cdef bytes _DEBIT = b'","side":"debit","amount":"'
cdef bytes _CREDIT = b'","side":"credit","amount":"'
cdef str _open = "open"
cdef str _type = "transaction.posted"

cdef char* _event = <char*>malloc(1 << 16)
"""Room for one event, which ENTRIES, EXTRAS and `put.TEXT` keep far below EVENT_MAX_BYTES. Nothing
that the lane does gives up the processor while it is in use."""


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

    def take(
        self, list commands, Py_ssize_t start, Py_ssize_t until, bint with_events, list drafts
    ):
        """Carry out commands from `start` on while they are plain, none past `until`; their
        verdicts come to `drafts`. Gives the place of the first that is left."""
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
        cdef bytes digest
        if type(command) is not PostTransaction:
            return False
        entries, digest, kind = command.entries, command.digest, command.kind
        size = len(entries)
        if (
            size < 2 or size > ENTRIES or PyBytes_GET_SIZE(digest) != DIGEST
            or command.imposed or command.dry_run or command.rate is not None
            or command.corrects is not None or command.approval is not None
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
            self._move(
                entries[place], accounts[place], number, place, amounts[place], debits[place],
                (<tuple>when)[1],
            )
        drafts.append(Committed(number, raw if with_events else b"", False))
        return True

    cdef list _plain_accounts(
        self, list entries, Py_ssize_t size, long long* amounts, bint* debits
    ):
        """The entries' accounts, if all is plain: open, in one currency, balanced, in limits."""
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
            if (
                entry.currency != currency
                or account.currency != currency
                or account.status != _open
            ):
                return None
            amounts[place], debits[place] = amount, entry.side == "debit"
            total += amount if debits[place] else -amount
            if account.floor is not None or account.ceiling is not None:
                is_limited = True
            accounts.append(account)
        if total != 0 or is_limited and not self._within_limits(entries, accounts, amounts, debits):
            return None
        return accounts

    cdef bint _within_limits(
        self, list entries, list accounts, long long* amounts, bint* debits
    ) except -1:
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
        self, command, long long seq, kind, tuple when, list entries, context, metadata,
        bytes digest,
    ) except? NULL:
        """The event's canonical bytes after the zero that makes them a leaf; NULL where a text is
        not as it would stand in JSON. `context`: None for the plain one. Gives their end."""
        cdef char* at = _event
        cdef bytes extra
        at = put_field(at, b'\0{"type":"transaction.posted","v":1,"ledger":"', self._ledger)
        if at != NULL:
            at = put_number(put(at, b'","seq":'), seq)
        at = put_field(at, b',"recorded_at":"', self._recorded_at)
        at = put_field(at, b'","actor":"', command.actor)
        request_id = command.request_id
        if request_id is not None:
            at = put_field(at, b'","request_id":"', request_id)
        at = put_field(at, b'","kind":"', kind)
        at = put_field(at, b'","effective_at":"', when[0])
        at = put_field(at, b'","effective_date":"', when[1])
        at = put_field(at, b'","business_date":"', when[2])
        at = self._put_entries(at, entries)
        if at == NULL:
            return NULL
        extra = b"{}" if context is None else _encode(context)
        if len(extra) > EXTRAS:
            return NULL
        at = put(put(at, b'],"context":'), extra)
        if metadata:
            extra = _encode(metadata)
            if len(extra) > EXTRAS:
                return NULL
            at = put(put(at, b',"metadata":'), extra)
        return put(put_hex(put(at, b',"idempotency_digest":"'), digest), b'"}')

    cdef char* _put_entries(self, char* at, list entries) except? NULL:
        """The entries as JSON, up to the bracket that ends them; NULL as `_put_event`."""
        cdef bytes before = b'","entries":[{"account":"'
        for entry in entries:
            at = put_field(at, before, entry.account)
            at = put_field(at, _DEBIT if entry.side == "debit" else _CREDIT, entry.amount)
            at = put_field(at, b'","currency":"', entry.currency)
            before = b'"},{"account":"'
        return NULL if at == NULL else put(at, b'"}')

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
