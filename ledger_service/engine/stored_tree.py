"""The Merkle tree as it is stored: leaf hashes in the journal, full tiles above them."""

from __future__ import annotations

from typing import Any

from ledger_service.engine.merkle import Tree, edge_ranges


async def load_tree(connection: Any, ledger: str, size: int) -> Tree:
    """The tree over the first `size` events, of which only the right edge is read.

    Errors: ValueError where hashes are missing.
    """
    edges: list[list[bytes]] = []
    for level, (start, count) in enumerate(edge_ranges(size)):
        edges.append(await stored_hashes(connection, ledger, level, start, count))
        if len(edges[-1]) != count:
            raise ValueError(f"the tree of {ledger} has a hole at level {level}")
    return Tree(edges, size)


async def stored_hashes(
    connection: Any, ledger: str, level: int, start: int, count: int
) -> list[bytes]:
    """Hashes of complete subtrees of 256^level leaves, `count` from number `start` on."""
    if level == 0:
        sql = (
            "select leaf_hash as hash from ledger.journal "
            "where ledger = $1 and seq > $2 and seq <= $3 order by seq"
        )
        rows = await connection.fetch(sql, ledger, start, start + count)
    else:
        sql = (
            "select root as hash from ledger.tile where ledger = $1 and level = $4 "
            "and tile_index >= $2 and tile_index < $3 order by tile_index"
        )
        rows = await connection.fetch(sql, ledger, start, start + count, level - 1)
    return [row["hash"] for row in rows]
