"""The API in process, for this folder."""

from __future__ import annotations

import pytest

from tests.ledger_api import serving


@pytest.fixture
async def api(ledger_database, monkeypatch):
    """The API on a fresh database, with a key per role."""
    async with serving(ledger_database, monkeypatch) as running:
        yield running
