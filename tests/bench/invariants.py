"""What must hold after a run, whatever its speed: asked of PostgreSQL alone, as its owner."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg

from ledger_service.domain.commands import key_digest
from tests.bench.load import read_answers

_CHECKS = {
    "debits = credits": """
      select coalesce(sum(b.debits) <> sum(b.credits), false)
        from ledger.balance b join ledger.account a using (ledger, number)
       where b.ledger = %(ledger)s group by a.currency
      """,
    "balances = fold of entries": """
      with fold as (
        select p.number, sum(u.amount) filter (where u.amount > 0) as debits,
               -sum(u.amount) filter (where u.amount < 0) as credits, max(p.last_seq) as version
          from ledger.posting_list p, unnest(p.amounts) as u (amount)
         where p.ledger = %(ledger)s group by p.number)
      select count(*) > 0 from ledger.balance b full join fold f using (number)
       where coalesce(b.ledger, %(ledger)s) = %(ledger)s
         and ((b.debits, b.credits) is distinct from (coalesce(f.debits, 0), coalesce(f.credits, 0))
              or b.version < coalesce(f.version, 0))
      """,
    "pending = what is left of open holds": """
      with held as (
        select u.number, sum(u.amount) filter (where u.amount > 0) as debits,
               -sum(u.amount) filter (where u.amount < 0) as credits
          from ledger.hold h, unnest(h.numbers, h.amounts) as u (number, amount)
         where h.ledger = %(ledger)s and h.state = 'open' group by u.number)
      select count(*) > 0 from ledger.balance b left join held h using (number)
       where b.ledger = %(ledger)s and (b.pending_debits, b.pending_credits)
             is distinct from (coalesce(h.debits, 0), coalesce(h.credits, 0))
      """,
    "journal gapless": """
      select (count(*), min(j.seq), max(j.seq)) is distinct from (max(h.seq), 1, max(h.seq))
        from ledger.journal j join ledger.head h using (ledger)
       where ledger = %(ledger)s
      """,
    "a key for each transaction": """
      select count(*) > 0
        from (select seq from ledger.journal
               where ledger = %(ledger)s
                 and event_type in ('transaction.posted', 'hold.placed')) as j
        full join (select seq from ledger.idempotency where ledger = %(ledger)s) as i using (seq)
       where i.seq is null or j.seq is null
      """,
    "every acknowledged one present": """
      select count(*) > 0 from acknowledged a left join ledger.idempotency i
          on substr(i.digest, 18) = substr(a.digest, 18) and i.digest = a.digest
       where i.seq is distinct from a.seq
      """,
}
"""Each gives true where it is broken."""
_BEHIND = """
  select h.seq - coalesce(p.seq, 0)
    from ledger.head h left join ledger.projection p on p.ledger = h.ledger and p.name = 'history'
   where h.ledger = %(ledger)s
"""


class Acknowledged(msgspec.Struct):
    """What one run was answered."""

    transactions: int
    refused: int
    micros: list[int]
    """What each request took, ascending."""
    seqs: list[int]
    """Of what was committed."""

    def at(self, share: float) -> float:
        """Milliseconds within which this share of the requests was answered."""
        return self.micros[min(len(self.micros) - 1, int(len(self.micros) * share))] / 1000


class _Result(msgspec.Struct):
    status: str
    seq: int = 0


class _Bulk(msgspec.Struct):
    results: list[_Result]


class _Posted(msgspec.Struct):
    seq: int


def check(owner_url: str, ledger: str, answers: Path, *, bulk: bool) -> Acknowledged:
    """Compare a run's answers with the database, and the database with itself.

    Errors: AssertionError that names what does not hold.
    """
    found = Acknowledged(0, 0, [], [])
    with psycopg.connect(owner_url) as connection, connection.cursor() as cursor:
        cursor.execute("create temporary table acknowledged (digest bytea, seq bigint)")
        with cursor.copy("copy acknowledged from stdin (format binary)") as copy:
            copy.set_types(["bytea", "int8"])
            for row in _acknowledged(answers, ledger, found, bulk=bulk):
                copy.write_row(row)
        cursor.execute("analyze acknowledged")
        while cursor.execute(_BEHIND, {"ledger": ledger}).fetchone() != (0,):
            time.sleep(0.1)
        for name, sql in _CHECKS.items():
            broken = cursor.execute(sql.encode(), {"ledger": ledger}).fetchall()
            assert not any(value for (value,) in broken), f"broken: {name}"
    found.micros.sort()
    return found


def read_only(answers: Path) -> Acknowledged:
    """What a run of reads was answered. Errors: AssertionError for one that failed."""
    found = list(read_answers(answers))
    assert all(status == 200 for _, status, _, _ in found), "a read failed"
    return Acknowledged(0, 0, sorted(took for _, _, took, _ in found), [])


def _acknowledged(
    answers: Path, ledger: str, found: Acknowledged, *, bulk: bool
) -> Iterator[tuple[bytes, int]]:
    for number, status, took, body in read_answers(answers):
        found.micros.append(took)
        results = []
        if bulk and status == 200:
            results = msgspec.json.decode(body, type=_Bulk).results
        elif status == 201:
            results = [_Result("committed", msgspec.json.decode(body, type=_Posted).seq)]
        found.refused += not results
        for item, result in enumerate(results):
            if result.status == "committed":
                found.transactions += 1
                found.seqs.append(result.seq)
                yield key_digest(ledger, f"{number:08d}-{item:04}"), result.seq
            else:
                found.refused += 1
