"""Verifiers that others wrote read the log: checkpoint, cosignature, tiles, both kinds of proof."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from pathlib import Path

import httpx
import pytest

from ledger_service.engine import checkpoints, tiles
from ledger_service.engine.merkle import leaf_hash
from ledger_service.engine.tiles import Place
from tests.conftest import FOREIGN
from tests.integration.engine.conftest import LEDGER
from tests.integration.engine.populated import LOG, WITNESS
from tests.integration.engine.test_verification import posted
from tests.ledger_api import Api, serving
from tests.servers import LedgerDatabase


@pytest.mark.parametrize(
    ("path", "index", "width"),
    [
        ("000", 0, 256),
        ("255.p/7", 255, 7),
        ("x001/x234/067", 1_234_067, 256),
        ("x001/234.p/255", 1_234, 255),
    ],
)
def test_paths_are_those_of_the_format(path: str, index: int, width: int) -> None:
    assert tiles.parse(path) == Place(index, width)
    assert Place(index, width).path() == path


@pytest.mark.parametrize(
    "path",
    [
        "0",
        "0000",
        "x000/001",
        "001/234",
        "x1/234",
        "000.p/0",
        "000.p/256",
        "000.p/01",
        "000/",
        "-01",
    ],
)
def test_a_path_written_otherwise_is_none(path: str) -> None:
    assert tiles.parse(path) is None


@pytest.fixture
async def api(ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch):
    await posted(ledger_database, 700)
    async with serving(ledger_database, monkeypatch) as running:
        yield running


async def _get(api: Api, path: str, role: str = "auditor") -> httpx.Response:
    return await api.call(role, "GET", f"/v1/ledgers/{LEDGER}/{path}")


async def test_tiles_and_entries_are_served_to_whom_may_read_them(api: Api) -> None:
    full, partial = await _get(api, "tile/0/001"), await _get(api, "tile/0/002.p/193")
    assert (len(full.content), len(partial.content)) == (256 * 32, 193 * 32)
    assert full.headers["content-type"] == "application/octet-stream"
    assert "immutable" in full.headers["cache-control"]
    assert len((await _get(api, "tile/1/000.p/2")).content) == 64
    bundle = (await _get(api, "tile/entries/001")).content
    length = int.from_bytes(bundle[:2], "big")
    assert leaf_hash(bundle[2 : 2 + length]) == full.content[:32]
    note = await _get(api, "checkpoint")
    assert note.headers["content-type"] == "text/plain; charset=utf-8"
    assert note.text == (await _get(api, "checkpoints/latest")).text
    for path in ("tile/0/002", "tile/0/002.p/255", "tile/1/000", "tile/2/000.p/1", "tile/63/000",
                 "tile/0/x999/x999/x999/x999/x999/999", "tile/-1/000", "tile/entries/002"):  # fmt: skip
        answer = await _get(api, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_tile"), path
    for path, role in (("tile/0/001", "integrator"), ("tile/entries/001", "analyst")):
        assert (await _get(api, path, role)).json()["code"] == "forbidden"
    assert (await _get(api, "tile/0/001", "")).status_code == 401
    assert (await _get(api, "tile/x/001")).status_code == 422


async def test_proofs_are_bounded_and_say_what_to_do(api: Api) -> None:
    for path in (
        "proofs/inclusion?seq=0", "proofs/inclusion?seq=706", "proofs/inclusion?seq=5&size=4",
        "proofs/inclusion?seq=1&size=99999999999999999999999", "proofs/inclusion",
        "proofs/inclusion?seq=99999999999999999999999", "proofs/consistency?first=0",
        "proofs/consistency?first=9&second=8", "proofs/consistency?first=1&second=706",
        "proofs/consistency?first=99999999999999999999999",
    ):  # fmt: skip
        answer = await _get(api, path)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), path
    assert (await _get(api, "checkpoints/704")).json()["code"] == "no_checkpoint"
    unknown = await api.call("auditor", "GET", "/v1/ledgers/nowhere/proofs/inclusion?seq=1")
    assert unknown.json()["code"] == "ledger_not_open"


async def _mirror(api: Api, folder: Path, size: int) -> None:
    """Every file of the log, fetched and kept under its path."""
    paths, level, width = ["checkpoint"], 0, size
    while width:
        for index in range(-(-width // 256)):
            place = Place(index, min(256, width - 256 * index)).path()
            paths += [f"tile/{level}/{place}", *([f"tile/entries/{place}"] if not level else [])]
        level, width = level + 1, width // 256
    for path in paths:
        answer = await _get(api, path)
        assert answer.status_code == 200, path
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(answer.content)


@pytest.mark.foreign
async def test_code_of_others_verifies_checkpoint_tiles_and_proofs(
    api: Api, tmp_path: Path
) -> None:
    await _mirror(api, tmp_path, 705)
    old = (await _get(api, "proofs/consistency?first=300")).json()["first_root"]
    vkeys = [
        checkpoints.verifier_key(name, kind, checkpoints.public_bytes(key))
        for name, kind, key in (
            (f"log.test/{LEDGER}", checkpoints.ED25519, LOG),
            ("w.test", checkpoints.COSIGNATURE_V1, WITNESS),
        )
    ]

    async def foreign(old_root: str = old) -> subprocess.CompletedProcess[str]:
        command = [str(FOREIGN), str(tmp_path), *vkeys, "400", "300", old_root]
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False
        )

    sound = await foreign()
    assert sound.returncode == 0, sound.stdout
    assert f"log.test/{LEDGER} 705 " in sound.stdout
    assert '"seq":400,' in sound.stdout
    assert (await foreign(base64.b64encode(bytes(32)).decode())).returncode == 1
    for path in ("tile/0/001", "tile/entries/001", "checkpoint", "tile/1/000.p/2"):
        file = tmp_path / path
        kept = file.read_bytes()
        # in the bundle, a byte inside the event that is asked for; a digit of the checkpoint's size
        place = kept.find(b'"seq":400,') if "entries" in path else kept.find(b"705")
        place = max(place, 0) + 1
        file.write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
        assert (await foreign()).returncode == 1, path
        file.write_bytes(kept)
    assert (await foreign()).returncode == 0
