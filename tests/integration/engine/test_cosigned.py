"""`tally verify` and the verifier name published checkpoints that nobody has cosigned."""

from __future__ import annotations

import psycopg
import pytest

from ledger_service.engine import checkpoints, verifier_service
from ledger_service.engine.verification.report import Finding
from ledger_service.engine.verifier_service import Verifier
from ledger_service.engine.verify import Keys, verify, verify_new
from tests.integration.engine.conftest import LEDGER, follow, local_writer
from tests.integration.engine.test_verification import KEYS, WITNESS, posted, tamper
from tests.integration.engine.test_witness import three_published
from tests.integration.engine.test_writer import A, B, submit
from tests.ledger_book import posting
from tests.servers import LedgerDatabase

AGED = "update ledger.checkpoint set created_at = now() - interval '11 minutes'"


def cosign_all(database: LedgerDatabase) -> None:
    """What the witness does when it comes back."""
    with psycopg.connect(database.owner_url) as owner:
        for size, note in owner.execute("select size, note from ledger.checkpoint").fetchall():
            line = checkpoints.cosign(checkpoints.parse(note), "w.test", WITNESS, 1_780_000_000)
            owner.execute(
                "insert into ledger.cosignature values (%s, %s, 'w.test', %s) "
                "on conflict do nothing",
                (LEDGER, size, line),
            )


def missing(findings: list[Finding]) -> list[tuple[str, int | None, str]]:
    return [(one.code, one.seq, one.remedy) for one in findings]


async def test_a_checkpoint_that_waits_too_long_for_its_cosignature_is_a_finding(
    ledger_database: LedgerDatabase, postgres
) -> None:
    url = ledger_database.url("verifier")
    await posted(ledger_database, 20)
    first, *_ = await three_published(ledger_database)
    assert verify_new(url, keys=KEYS).findings == [], "it may wait a while"
    tamper(postgres.admin_url, ledger_database, AGED)
    assert missing(verify_new(url, keys=KEYS).findings) == [("not_cosigned", first, "look")]
    [finding] = verify(url, keys=KEYS).findings
    assert finding.message.startswith("3 checkpoints since ")
    assert verify(url, keys=Keys(KEYS.log)).findings == [], "no witness, nothing to wait for"
    # what is new is verified all the same, and not again because of the witness
    async with local_writer(ledger_database) as writer:
        [verdict] = await submit(writer, posting("more", (A, 100), (B, -100)))
    await follow(ledger_database)
    assert len(verify_new(url, keys=KEYS).findings) == 1
    with psycopg.connect(ledger_database.owner_url) as owner:
        assert owner.execute("select seq from ledger.verified").fetchone() == (verdict.seq,)
    cosign_all(ledger_database)
    assert verify_new(url, keys=KEYS).findings == []
    # one in the middle, whose cosignature somebody took away: only a full run reads so far back
    gone = f"delete from ledger.cosignature where size = {first}"
    tamper(postgres.admin_url, ledger_database, gone)
    assert verify_new(url, keys=KEYS).findings == []
    assert missing(verify(url, keys=KEYS).findings) == [("not_cosigned", first, "look")]


async def test_while_the_witness_is_away_the_verifier_does_not_read_everything_each_minute(
    ledger_database: LedgerDatabase,
    postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await posted(ledger_database, 20)
    await three_published(ledger_database)
    await follow(ledger_database)
    tamper(postgres.admin_url, ledger_database, AGED)
    full: list[bool] = []

    def counted(*arguments, **options):
        full.append(True)
        return verify(*arguments, **options)

    monkeypatch.setattr(verifier_service, "verify", counted)
    monkeypatch.setattr(verifier_service, "UNSOUND_INTERVAL_S", 0.0)
    watching = Verifier(ledger_database.url("verifier"), KEYS)
    for _ in range(3):
        figures = watching.run_once()
        assert [one["code"] for one in figures["findings"]] == ["not_cosigned"]
        assert (figures["ready"], figures["stopped"]) == (False, {})
    assert len(full) == 1
    cosign_all(ledger_database)
    assert (watching.run_once()["ready"], len(full)) == (True, 2)
