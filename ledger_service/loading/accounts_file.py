"""The list of accounts beside a source: opening balances, and whose the accounts are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ledger_service.contract.money import MoneyError, to_minor
from ledger_service.loading.errors import LoadError, RowRejectedError
from ledger_service.loading.mapping import Mapping, Persons
from ledger_service.loading.plan import Planner
from ledger_service.loading.source import Source


@dataclasses.dataclass(frozen=True, slots=True)
class ListedAccount:
    """An account of the list. `party` goes to the vault only."""

    account: str
    opening_balance: int
    """Minor units; 0 is none."""
    party: dict[str, Any] | None


def listed_accounts(loaded: Path, mapping: Mapping, planner: Planner) -> list[ListedAccount]:
    """The accounts that the mapping's list names; none where it names no list.

    Errors: `no_such_file`, `missing_columns`, `bad_accounts_file` with the first bad row.
    """
    listed = mapping.accounts.listed_in
    if listed is None:
        return []
    persons = listed.persons
    wanted = [listed.id]
    wanted += [listed.opening_balance] if listed.opening_balance else []
    optional = (
        [persons.name, persons.country, persons.tax_id, persons.birth_date] if persons else []
    )
    wanted += [name for name in optional if name]
    accounts: list[ListedAccount] = []
    for number, values in Source(loaded.parent / listed.file).rows(wanted):
        try:
            row = dict(zip(wanted, values or [], strict=True))
            opening = 0
            if listed.opening_balance:
                opening, _ = to_minor(
                    row[listed.opening_balance], mapping.currency, mapping.rounding
                )
            account = planner.account(row[listed.id])
        except (ValueError, MoneyError, RowRejectedError) as error:
            raise LoadError(
                "bad_accounts_file", f"Row {number} of {listed.file} can't be used: {error}."
            ) from None
        if opening < 0:
            raise LoadError(
                "bad_accounts_file",
                f"Row {number} of {listed.file} opens with a debt; post that later.",
            )
        accounts.append(ListedAccount(account, opening, _party(persons, row) if persons else None))
    return accounts


def _party(persons: Persons, row: dict[str, str]) -> dict[str, Any]:
    party = {
        "kind": "person",
        "risk_tier": "low",
        "name": row[persons.name],
        "country": row[persons.country],
        "tax_id": row.get(persons.tax_id or ""),
        "birth_date": row.get(persons.birth_date or ""),
    }
    return {name: value for name, value in party.items() if value}
