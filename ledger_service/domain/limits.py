"""What accounts allow: their status, their limits, and what they lack when money is imposed (P4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ledger_service.contract.events import Entry
from ledger_service.domain import transaction
from ledger_service.domain.account import STATUSES, Account
from ledger_service.domain.commands import ChangeAccount
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.opening import Terms, shortfall_account


def check_accounts(
    entries: Sequence[Entry], accounts: Mapping[str, Account], *, imposed: bool = False
) -> Refusal | None:
    """Whether the accounts exist in the entries' currencies and take entries.

    What the outside world imposes is booked whatever an account's status.
    """
    for entry in entries:
        account = accounts.get(entry.account)
        if account is None or account.currency != entry.currency or account.status != "open":
            return _why_not(entries, accounts, imposed=imposed)
    return None


def check_named(
    named: Sequence[tuple[str, str]], accounts: Mapping[str, Account]
) -> Refusal | None:
    """Whether accounts exist, each in the currency with which it is named."""
    for name, _ in named:
        if name not in accounts:
            return refusal("unknown_account", account=name)
    for name, currency in named:
        if accounts[name].currency != currency:
            return refusal("currency_differs", account=name, currency=accounts[name].currency)
    return None


def _why_not(
    entries: Sequence[Entry], accounts: Mapping[str, Account], *, imposed: bool
) -> Refusal | None:
    """The refusal that comes first where an account is not as an entry needs it, if one does."""
    named = [(entry.account, entry.currency) for entry in entries]
    problem = check_named(named, accounts)
    if problem or imposed:
        return problem
    for entry in entries:
        if accounts[entry.account].status == "closed":
            return refusal("account_closed", account=entry.account)
    for entry in entries:
        account = accounts[entry.account]
        if account.status != "open" and not account.takes(entry.side):
            return refusal("account_frozen", account=entry.account, status=account.status)
    return None


def _changes(
    entries: Iterable[Entry], accounts: Mapping[str, Account], *, pending: bool
) -> dict[str, tuple[int, int]]:
    """Change of each limited account's secured and expected balance.

    What is posted counts for both; what is pending lowers the one or raises the other.
    """
    changes: dict[str, tuple[int, int]] = {}
    for entry in entries:
        account = accounts[entry.account]
        if account.floor is None and account.ceiling is None:
            continue
        amount = int(entry.amount)
        signed = amount if (entry.side == "debit") == account.debit_normal else -amount
        secured, expected = changes.get(entry.account, (0, 0))
        if not pending or signed < 0:
            secured += signed
        if not pending or signed > 0:
            expected += signed
        changes[entry.account] = secured, expected
    return changes


def check_limits(
    entries: Iterable[Entry], accounts: Mapping[str, Account], *, pending: bool = False
) -> Refusal | None:
    """Whether no balance moves below its floor or above its ceiling, all entries as a whole.

    `pending`: they are those of a hold.

    What is pending against an account counts as gone, what is pending in its favour as come. An
    account that is beyond a limit already may move back towards it.
    """
    changes = _changes(entries, accounts, pending=pending)
    if not changes:
        return None
    for name, (change, _) in changes.items():
        account = accounts[name]
        if account.floor is not None and change < 0 and account.secured + change < account.floor:
            available = max(account.secured - account.floor, 0)
            return refusal(
                "floor_passed", account=name, available=str(available), floor=str(account.floor)
            )
    for name, (_, change) in changes.items():
        account = accounts[name]
        if (
            account.ceiling is not None
            and change > 0
            and account.expected + change > account.ceiling
        ):
            return refusal("ceiling_passed", account=name, ceiling=str(account.ceiling))
    return None


def shortfall_entries(
    terms: Terms, entries: Sequence[Entry], accounts: Mapping[str, Account]
) -> list[Entry]:
    """What an imposed transaction takes from customers below their floor, moved to a receivable.

    What is held stays set aside: a hold that was granted can be captured (P4).
    """
    found: list[Entry] = []
    for name, (change, _) in _changes(entries, accounts, pending=False).items():
        account = accounts[name]
        is_customers = account.custodial and not account.debit_normal
        if account.floor is None or change >= 0 or not is_customers:
            continue
        shortfall = min(account.floor - (account.secured + change), -change)
        if shortfall > 0:
            currency, amount = account.currency, str(shortfall)
            receivable = shortfall_account(terms.opened, currency)
            found.append(Entry(receivable, "debit", amount, currency))
            found.append(Entry(name, "credit", amount, currency))
    return found


def check_change(command: ChangeAccount, accounts: Mapping[str, Account]) -> Refusal | None:
    """Whether a status may follow the present one."""
    if command.status not in STATUSES:
        return refusal("bad_status")
    if not transaction.is_code(command.reason):
        return refusal("bad_reason")
    account = accounts.get(command.account)
    if account is None:
        return refusal("unknown_account", account=command.account)
    if account.status == "closed" and command.status != "closed":
        return refusal("account_closed", account=command.account)
    return _check_empty(command.account, account) if command.status == "closed" else None


def _check_empty(name: str, account: Account) -> Refusal | None:
    if account.balance:
        return refusal("account_not_empty", account=name, balance=str(account.balance))
    if account.pending_debits or account.pending_credits:
        return refusal("account_has_holds", account=name)
    return None
