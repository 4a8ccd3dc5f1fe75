"""dbt's documentation as a site beside each snapshot, of what that snapshot's readers may know.

`<snapshots>/general/docs/index.html` is one file with everything in it: descriptions, columns and
lineage of the marts of `general` and of what they are made from. Of what only `restricted` is made
from, it holds neither a name nor a line of SQL.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ledger_service.contract.snapshots import SnapshotName, write_atomically

_NAMED = ("nodes", "sources", "exposures", "unit_tests", "macros")
"""Parts of the manifest whose entries are kept one by one."""
_ABOUT_ALL = ("metadata", "docs")
"""Parts that say nothing of single models."""


def write_site(
    snapshots: Path,
    name: SnapshotName,
    manifest: Mapping[str, Any],
    catalog: Mapping[str, Any],
    page: str,
) -> Path:
    """Write the site of one snapshot; `page` is dbt's own, with places for both. Gives the file."""
    shown = known_to(name, manifest)
    for place, content in (
        ("MANIFEST.JSON INLINE DATA", _manifest_of(manifest, shown)),
        ("CATALOG.JSON INLINE DATA", _catalog_of(catalog, shown)),
    ):
        # a closing tag inside of a text would end dbt's script
        page = page.replace(f'"{place}"', json.dumps(content).replace("</", "<\\/"))
    file = snapshots / name / "docs" / "index.html"
    write_atomically(file, page.encode())
    return file


def known_to(name: SnapshotName, manifest: Mapping[str, Any]) -> set[str]:
    """Ids of what readers of a snapshot may know: all of it for `restricted`, for `general` its
    marts, what they are made from, and what is only about those.
    """
    if name == "restricted":
        return {one for part in _NAMED for one in manifest[part]}
    marts = [
        one
        for one, node in manifest["nodes"].items()
        if node["config"].get("meta", {}).get("snapshot") == name
    ]
    shown = _with_all(marts, manifest, "nodes")
    about = {
        **manifest["exposures"],
        **manifest["unit_tests"],
        **{one: node for one, node in manifest["nodes"].items() if node["resource_type"] == "test"},
    }
    shown |= {one for one, entry in about.items() if shown.issuperset(entry["depends_on"]["nodes"])}
    used = {
        macro
        for part in _NAMED
        for one, entry in manifest[part].items()
        if one in shown
        for macro in entry.get("depends_on", {}).get("macros", [])
    }
    return shown | _with_all(used, manifest, "macros")


def _with_all(ids: Iterable[str], manifest: Mapping[str, Any], kind: str) -> set[str]:
    """`ids` and whatever they are made from, however far back."""
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            entry = manifest[kind].get(one, {})
            waiting += entry.get("depends_on", {}).get(kind, [])
    return found


def _manifest_of(manifest: Mapping[str, Any], shown: Collection[str]) -> dict[str, Any]:
    """The same manifest with nothing in it but what is shown."""
    content = {part: {} for part, value in manifest.items() if isinstance(value, dict)}
    content |= {part: manifest[part] for part in _ABOUT_ALL}
    for part in _NAMED:
        content[part] = {one: value for one, value in manifest[part].items() if one in shown}
    for links in ("parent_map", "child_map"):
        content[links] = {
            one: [other for other in others if other in shown]
            for one, others in manifest[links].items()
            if one in shown
        }
    return content


def _catalog_of(catalog: Mapping[str, Any], shown: Collection[str]) -> dict[str, Any]:
    kept = {
        part: {one: value for one, value in catalog[part].items() if one in shown}
        for part in ("nodes", "sources")
    }
    return {"metadata": catalog["metadata"], "errors": None, **kept}
