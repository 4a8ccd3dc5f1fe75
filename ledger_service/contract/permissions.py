"""Who may do what: one table, checked at the server on every route.

A route names one permission; a principal holds roles; the table joins them. There is no other way
in: a permission that is not listed here is refused to everybody.
"""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal[
    "integrator",  # a backend that posts money
    "operator",  # runs payments and asks for reversals
    "approver",  # the second person
    "analyst",  # reads balances and reconciled data
    "compliance",  # reviews alerts
    "auditor",  # reads everything but persons, verifies proofs
    "administrator",  # keys, users, ledgers; moves no money
    "service",  # a part of this system: worker, pipelines, monitor, bank feed
]
ROLES: tuple[str, ...] = get_args(Role)

PERMISSIONS: dict[str, frozenset[str]] = {
    name: frozenset(roles.split())
    for name, roles in {
        "api.use": "integrator operator approver analyst compliance auditor administrator service",
        "ledgers.read": "integrator operator approver analyst compliance auditor administrator service",
        "ledgers.open": "integrator administrator",
        "ledgers.declare": "integrator administrator",
        "ledgers.resume": "operator",
        "accounts.open": "integrator administrator",
        "accounts.freeze": "compliance operator",
        "transactions.post": "integrator",
        "transactions.reverse": "service",
        "periods.close": "operator",
        "events.read": "auditor service",
        "proofs.read": "operator approver analyst compliance auditor administrator service",
        "checkpoints.cosign": "service",
        "reversals.request": "integrator operator",
        "reversals.read": "integrator operator approver compliance auditor service",
        "approvals.read": "operator approver compliance auditor",
        "approvals.decide": "approver",
        "parties.register": "integrator operator",
        "parties.read": "integrator operator approver analyst compliance auditor administrator service",
        "parties.retain": "compliance",
        "parties.reveal": "compliance",
        "parties.erase": "administrator",
        "statements.import": "operator service",
        "statements.read": "operator approver analyst auditor service",
        "balances.view": "operator approver analyst compliance auditor administrator",
        "holds.view": "operator approver analyst compliance auditor administrator",
        "periods.view": "operator approver analyst compliance auditor administrator",
        "rules.view": "operator approver analyst compliance auditor administrator",
        "reconciliation.view": "operator approver analyst compliance auditor administrator",
        "alerts.view": "compliance auditor",
        "alerts.decide": "compliance",
        "pipelines.view": "analyst operator auditor administrator",
        "reports.view": "operator approver analyst compliance auditor administrator",
        "audit.read": "auditor administrator",
        "identities.manage": "administrator",
    }.items()
}


def allowed(permission: str, roles: frozenset[str] | set[str]) -> bool:
    """Whether one of `roles` holds `permission`; an unknown permission is held by nobody."""
    return bool(PERMISSIONS.get(permission, frozenset()) & roles)
