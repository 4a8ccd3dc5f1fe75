"""Names of ledgers: what stands beside streams must never be taken for one."""

from __future__ import annotations

import pytest

from ledger_service.contract.identifiers import IdentifierError, check_ledger
from ledger_service.contract.topics import STREAMS


@pytest.mark.parametrize("name", [*STREAMS, "", "a", "Simulated", "7up", "x" * 32, "a-b", "ok\n"])
def test_what_is_no_ledgers_name(name: str) -> None:
    with pytest.raises(IdentifierError) as refusal:
        check_ledger(name)
    assert refusal.value.code == "bad_ledger_id"


@pytest.mark.parametrize("name", ["ok", "parties_2", "x" * 31, "us_program_1"])
def test_ledgers_names(name: str) -> None:
    assert check_ledger(name) == name
