"""What a second person approves of a posting rule: every term of it, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger_service.contract.rules import Tier
from ledger_service.domain.approval import approval_digest, declaration_content
from ledger_service.domain.commands import approval_of, decode_command
from ledger_service.domain.rule_commands import DeclareRule, WithdrawRule
from tests.ledger_book import fee_rule, parts

RULE = fee_rule("card", Tier(rate="0.029", fixed="30"))
OTHER: dict[str, Any] = {
    "rule": "wire",
    "since": "2026-06-02",
    "kind": "interest",
    "currency": "EUR",
    "tiers": [Tier(rate="0.029", fixed="31")],
    "debit": parts(("income:fees", 1)),
    "credit": parts(("income:fees", 2)),
    "tiering": "volume",
    "minimum": "0",
    "maximum": "1",
    "rounding": "down",
    "day_count": "ACT/360",
    "balances": "negative",
}
NO_TERMS: dict[str, Any] = {
    "actor": "key_other",
    "request_id": "00000000-0000-4000-8000-000000000000",
    "approval": "apr_a",
    "dry_run": True,
}


def digest_of(command: DeclareRule | WithdrawRule, ledger: str = "simulated") -> str:
    needed = approval_of(ledger, command)
    assert needed is not None
    return needed[1]


def test_each_field_is_a_term_or_none() -> None:
    assert OTHER.keys() | NO_TERMS.keys() == set(DeclareRule.__struct_fields__)


@pytest.mark.parametrize("name", OTHER)
def test_another_term_is_another_digest(name: str) -> None:
    other = msgspec.structs.replace(RULE, **{name: OTHER[name]})
    assert digest_of(other) != digest_of(RULE)


def test_who_asks_and_who_acts_may_differ() -> None:
    assert digest_of(msgspec.structs.replace(RULE, **NO_TERMS)) == digest_of(RULE)


def test_another_ledger_or_day_is_another_digest() -> None:
    assert digest_of(RULE, "other") != digest_of(RULE)
    ends = WithdrawRule("card", "2026-07-01", "key_test")
    later = WithdrawRule("card", "2026-07-02", "key_test")
    assert len({digest_of(ends), digest_of(later), digest_of(ends, "other")}) == 3


def test_a_term_at_its_default_is_the_same_however_it_travelled() -> None:
    """Left out, written out, or read back from the message to the writer."""
    bare = fee_rule("card", Tier(rate="0.01"))
    full = fee_rule("card", Tier("0", "0.01", "0"))
    there = decode_command(msgspec.msgpack.encode(full))
    assert isinstance(there, DeclareRule)
    assert digest_of(bare) == digest_of(full) == digest_of(there)
    written = msgspec.json.decode(msgspec.json.encode(declaration_content("simulated", bare)))
    assert approval_digest(written) == digest_of(bare), "as it is stored"
