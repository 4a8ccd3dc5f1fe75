"""Maker and checker (P12): an approval is a row that the checker's own session writes.

The maker's request fixes content and digest. The checker is a signed-in person other than the maker
(checked here and by the database), who names the digest of what they saw. The command that acts
spends the approval in its own transaction, through `security.consume_approval`, by the digest it
computes from its own facts. So neither a workflow nor a leaked service key can approve anything.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from ledger_service.contract.identifiers import random_id, refuse_personal
from ledger_service.domain.approval import Content, approval_digest
from ledger_service.security import audit
from ledger_service.security.credentials import same
from ledger_service.security.errors import SecurityRefusal
from ledger_service.security.identities import Connection, Identity

LIFETIME = dt.timedelta(hours=72)
"""From request to execution: what was approved is meant to happen now."""

Decision = Literal["approve", "refuse"]
Status = Literal["pending", "approved", "refused", "consumed", "expired"]


class Approval(NamedTuple):
    """A request for a second person's word. `expired`: a pending or approved row past its time."""

    approval_id: str
    kind: str
    subject: str
    digest: str
    facts: dict[str, Any]
    requested_by: str
    requested_at: dt.datetime
    expires_at: dt.datetime
    status: Status
    decided_by: str | None
    decided_at: dt.datetime | None
    reason: str | None
    consumed_seq: int | None


_COLUMNS = """
approval_id, kind, subject, digest, facts::text as facts, requested_by, requested_at, expires_at,
case when status in ('pending', 'approved') and expires_at <= clock_timestamp()
     then 'expired' else status end as status,
decided_by, decided_at, reason, consumed_seq
"""


def _approval(row: Any) -> Approval:
    return Approval(**{**dict(row), "facts": json.loads(row["facts"])})


_MINOR = re.compile(r"\A\d{1,19}\Z")
_FIGURES = {
    **dict.fromkeys(("amount", "at_least", "fixed", "minimum", "maximum"), _MINOR),
    "rate": re.compile(r"\A\d{1,4}\.\d{1,12}\Z"),
    "entries": re.compile(r" (?:debit|credit) \d{1,19} "),
    "content": re.compile(r"\A[0-9a-f]{64}\Z"),
}
"""Of contents: amounts, rates and hashes, which may hold nine digits in a row and name nobody."""


def _texts(content: Content) -> Iterator[tuple[str, str]]:
    """Every text of a content with its name, in lists too."""
    for name, value in content.items():
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, Sequence):
            for part in value:
                yield from _texts(part)


async def request_approval(
    connection: Connection,
    content: Content,
    *,
    subject: str,
    requested_by: str,
    lifetime: dt.timedelta = LIFETIME,
) -> Approval:
    """Ask for a second person's word on `content` (see `domain.approval`), in the transaction that
    stores the request itself. `subject` is the id of that request, `requested_by` the maker.

    Errors: `personal_data_refused`.
    """
    for name, value in _texts(content):
        figure = _FIGURES.get(name)
        refuse_personal(figure.sub(" ", value) if figure else value, name)
    row = await connection.fetchrow(
        f"""insert into security.approval
              (approval_id, kind, subject, digest, facts, requested_by, requested_for, expires_at)
            values ($1, $2, $3, $4, $5, $6,
                    coalesce((select holder from security.api_key where key_id = $6), $6),
                    clock_timestamp() + $7)
            returning {_COLUMNS}""",
        random_id("apr"),
        str(content["kind"]),
        subject,
        approval_digest(content),
        json.dumps(dict(content)),
        requested_by,
        lifetime,
    )
    approval = _approval(row)
    await audit.record(
        connection,
        actor=requested_by,
        action="approval.requested",
        subject=approval.approval_id,
        details={"kind": approval.kind, "for": subject},
    )
    return approval


async def find(connection: Connection, approval_id: str) -> Approval:
    """One approval. Errors: `unknown_approval`."""
    row = await connection.fetchrow(
        f"select {_COLUMNS} from security.approval where approval_id = $1", approval_id
    )
    if row is None:
        raise SecurityRefusal("unknown_approval", "There is no such approval.")
    return _approval(row)


async def browse(
    connection: Connection, *, status: Status | None = None, after: str = "", limit: int = 100
) -> list[Approval]:
    """Approvals in the order of their ids, after `after`; those of one status, if given."""
    rows = await connection.fetch(
        f"""select * from (select {_COLUMNS} from security.approval where approval_id > $2) a
             where $1::text is null or status = $1 order by approval_id limit $3""",
        status,
        after,
        limit,
    )
    return [_approval(row) for row in rows]


async def decide(
    connection: Connection,
    approval_id: str,
    decision: Decision,
    *,
    checker: Identity,
    digest: str,
    reason: str,
) -> Approval:
    """Write the checker's decision. The caller has checked the permission `approvals.decide`.

    Runs in a transaction of its own. Errors: `unknown_approval`, `session_required`,
    `maker_is_checker`, `digest_mismatch`, `approval_decided`, `approval_expired`,
    `personal_data_refused`. A refusal is itself on record.
    """
    refuse_personal(reason, "reason")
    async with connection.transaction():
        row = await connection.fetchrow(
            f"""select {_COLUMNS}, requested_for from security.approval
                 where approval_id = $1 for update""",
            approval_id,
        )
        refusal = _refusal(row, checker, digest)
        if refusal is None:
            decided = await connection.fetchrow(
                f"""update security.approval
                       set status = $2, decided_by = $3, decided_at = clock_timestamp(),
                           session_id = $4, reason = $5
                     where approval_id = $1 returning {_COLUMNS}""",
                approval_id,
                "approved" if decision == "approve" else "refused",
                checker.actor,
                checker.session_id,
                reason,
            )
            await _record(connection, checker, approval_id, decision)
            return _approval(decided)
        if row is not None:
            await _record(connection, checker, approval_id, decision, refusal.code)
    raise refusal


def _refusal(  # noqa: PLR0911 - one reason after the other, in the order in which they are told
    row: Any, checker: Identity, digest: str
) -> SecurityRefusal | None:
    if row is None:
        return SecurityRefusal("unknown_approval", "There is no such approval.")
    if checker.kind != "session" or checker.session_id is None:
        return SecurityRefusal(
            "session_required", "A decision is a person's: sign in (POST /v1/sessions), no API key."
        )
    if checker.actor in (row["requested_by"], row["requested_for"]):
        return SecurityRefusal(
            "maker_is_checker", "You asked for this yourself; another person must decide."
        )
    if row["status"] == "expired":
        return SecurityRefusal(
            "approval_expired", "The request has expired; it must be made again."
        )
    if row["status"] != "pending":
        return SecurityRefusal("approval_decided", f"This approval is {row['status']} already.")
    if not same(digest.encode("utf-8", "surrogatepass"), row["digest"].encode()):
        return SecurityRefusal(
            "digest_mismatch",
            "The digest is not that of this request; read the approval again before you decide.",
        )
    return None


async def _record(
    connection: Connection,
    checker: Identity,
    approval_id: str,
    decision: str,
    code: str | None = None,
) -> None:
    await audit.record(
        connection,
        actor=checker.actor,
        action="approval.decided",
        subject=approval_id,
        outcome="refused" if code else "done",
        details={"decision": decision, "session": checker.session_id, "code": code},
    )
