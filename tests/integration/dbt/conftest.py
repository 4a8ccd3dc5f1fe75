"""One warehouse for all tests of the marts: every history in one build."""

from __future__ import annotations

import pytest

from tests.integration.dbt.histories import ALL
from tests.integration.dbt.warehouse import Warehouse, merged


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Everything in one build."""
    warehouse = Warehouse(tmp_path_factory.mktemp("built"))
    warehouse.build(merged(ALL))
    return warehouse
