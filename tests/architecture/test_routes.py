"""Every route but health and sign-in names exactly one permission, of the one table."""

from __future__ import annotations

import re

from ledger_service.api.app import every_route
from ledger_service.api.documentation import permissions_of
from ledger_service.contract.permissions import PERMISSIONS

OPEN = {("GET", "/livez"), ("GET", "/readyz"), ("POST", "/v1/sessions")}
PROMISED = {
    "POST /v1/ledgers",
    "POST /v1/ledgers/{}/transactions",
    "POST /v1/ledgers/{}/transactions:batch",
    "POST /v1/ledgers/{}/transactions:stream",
    "POST /v1/ledgers/{}/transactions/{}:reverse",
    "GET /v1/ledgers/{}/proofs/inclusion",
    "POST /v1/ledgers/{}/reversals",
    "POST /v1/approvals/{}/decisions",
    "POST /v1/parties:batch",
    "DELETE /v1/parties/{}",
    "POST /v1/statements",
    "GET /v1/audit-log",
}


def test_every_route_names_exactly_one_permission():
    for route in every_route():
        wanted = permissions_of(route.dependant)
        for method in route.methods:
            expected = 0 if (method, route.path) in OPEN else 1
            assert len(wanted) == expected, f"{method} {route.path} names {wanted}"
        assert set(wanted) <= PERMISSIONS.keys()


def test_the_routes_that_others_rely_on_are_there():
    routes = {
        f"{method} {re.sub('{[^}]*}', '{}', route.path)}"
        for route in every_route()
        for method in route.methods
    }
    assert not PROMISED - routes
