"""Which tables two warehouses of the same facts are compared by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest


def compared_marts(manifest: Manifest) -> list[str]:
    """Every contracted mart, and whatever increments read besides: equal after one, the next one begins
    from the same."""
    return sorted(
        f"{node.schema}.{node.name}"
        for node in manifest.nodes.values()
        if node.resource_type == "model"
        and (node.config.contract.enforced or node.config.materialized == "incremental")
    )
