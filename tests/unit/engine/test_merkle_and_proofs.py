"""Trees, proofs and checkpoints against a naive tree written from RFC 6962 alone."""

from __future__ import annotations

import base64
import hashlib

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings

from ledger_service.engine import checkpoints
from ledger_service.engine.merkle import TILE_WIDTH, Tree, edge_ranges, leaf_hash
from ledger_service.engine.proofs import (
    ProofError,
    check_consistency,
    consistency_ranges,
    inclusion_ranges,
    root_from_inclusion,
)

CONTENT = [b"event %d" % number for number in range(65_800)]
LEAVES = [leaf_hash(content) for content in CONTENT]


def naive(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return hashlib.sha256(b"\x01" + naive(leaves[:middle]) + naive(leaves[middle:])).digest()


def test_roots_are_the_naive_ones_and_survive_a_restart_at_any_size() -> None:
    tree = Tree()
    tiles = {}
    for size, leaf in enumerate(LEAVES, 1):
        for tile in tree.extend([leaf]):
            tiles[tile.level, tile.index] = tile
        if size in (1, 2, 3, 255, 256, 257, 512, 1000, 65_536, 65_800):
            assert tree.root() == naive(LEAVES[:size])
            edges = [
                LEAVES[start : start + count]
                if level == 0
                else [tiles[level - 1, start + n].root for n in range(count)]
                for level, (start, count) in enumerate(edge_ranges(size))
            ]
            assert Tree(edges, size).root() == tree.root()
    assert tiles[0, 1].hashes == b"".join(LEAVES[TILE_WIDTH : 2 * TILE_WIDTH])
    assert tiles[1, 0].root == naive(LEAVES[:65_536])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from((0, 1, 2, 3, 100, 255, 256, 257, 700)), max_size=8))
def test_a_tree_that_grows_by_many_is_the_one_that_grew_one_by_one(steps: list[int]) -> None:
    single, tree, tiles = Tree(), Tree(), []
    for step in steps:
        news = LEAVES[tree.size : tree.size + step]
        grown = {(tile.level, tile.index): tile for tile in tree.extend(news)}
        tiles += [tile for leaf in news for tile in single.extend([leaf])]
        assert tree.root() == single.root() == naive(LEAVES[: tree.size])
        assert all(grown.get((tile.level, tile.index), tile) == tile for tile in tiles)
    assert len(tiles) == tree.size // TILE_WIDTH


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33])
def test_inclusion_proofs_lead_to_the_root_and_only_for_their_leaf(size: int) -> None:
    root = naive(LEAVES[:size])
    for index in range(size):
        proof = [naive(LEAVES[a:b]) for a, b in inclusion_ranges(index, 0, size)]
        assert root_from_inclusion(index, size, LEAVES[index], proof) == root
        assert root_from_inclusion(index, size, LEAVES[index + 1], proof) != root
        with pytest.raises(ProofError):
            root_from_inclusion(index, size, LEAVES[index], [*proof, root])


def test_consistency_proofs_hold_for_every_pair_and_not_for_another_history() -> None:
    for second in range(1, 34):
        for first in range(1, second + 1):
            proof = [naive(LEAVES[a:b]) for a, b in consistency_ranges(first, second)]
            old, new = naive(LEAVES[:first]), naive(LEAVES[:second])
            check_consistency(first, second, old, new, proof)
            forged = naive([LEAVES[999], *LEAVES[1:second]])
            with pytest.raises(ProofError):
                check_consistency(first, second, old, forged, proof)
    with pytest.raises(ProofError):
        check_consistency(5, 4, naive(LEAVES[:5]), naive(LEAVES[:4]), [])


def test_a_checkpoint_is_a_signed_note_and_a_cosignature_names_its_time() -> None:
    log, witness = (Ed25519PrivateKey.from_private_bytes(seed * 32) for seed in (b"l", b"w"))
    stated = checkpoints.Checkpoint("log.example/simulated", 7, naive(LEAVES[:7]))
    note = checkpoints.sign(stated, log)
    lines = note.split("\n")
    assert lines[:2] == ["log.example/simulated", "7"]
    assert base64.b64decode(lines[2]) == stated.root
    assert lines[4].startswith("— log.example/simulated ")
    assert checkpoints.verify(note, checkpoints.public_bytes(log)) == stated
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.verify(note.replace("\n7\n", "\n8\n"), checkpoints.public_bytes(log))
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.verify(note, checkpoints.public_bytes(witness))
    line = checkpoints.cosign(stated, "w.example", witness, 1_780_000_000)
    key = checkpoints.public_bytes(witness)
    assert checkpoints.verify_cosignature(stated, line, "w.example", key) == 1_780_000_000
    other = checkpoints.Checkpoint(stated.origin, 8, stated.root)
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.verify_cosignature(other, line, "w.example", key)


def test_a_key_is_named_and_a_note_signed_as_in_the_formats_own_example() -> None:
    """The example of the documentation of golang.org/x/mod/sumdb/note."""
    name, coded = "PeterNeumann", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    raw = base64.b64decode(coded)
    assert checkpoints.verifier_key(name, raw[:1], raw[1:]) == f"{name}+c74f20a3+{coded}"
    line = (
        "— PeterNeumann "
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    [(signer, identity, signature)] = checkpoints.signatures(f"{text}\n{line}\n")
    assert (signer, identity.hex()) == (name, "c74f20a3")
    Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signature, text.encode())


NOTE = checkpoints.sign(
    checkpoints.Checkpoint("log.example/simulated", 7, bytes(32)),
    Ed25519PrivateKey.from_private_bytes(b"l" * 32),
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n7\n", "\n07\n"),
        ("\n7\n", "\n+7\n"),
        ("\n7\n", "\n 7\n"),
        ("\n7\n", "\n7_0\n"),
        ("\n7\n", "\n-7\n"),
        ("log.example", "log example"),
        ("log.example", "log+example"),
        ("log.example", "log\x00example"),
        ("AAA=\n", "AAB=\n"),
        ("AAA=\n", "AAA=\n\n"),
        ("AAA=\n", "AAA\n"),
        ("\n\n", "\n"),
        ("— log", "- log"),
        ("— log", "—  log"),
    ],
)
def test_a_note_written_otherwise_is_refused(old: str, new: str) -> None:
    key = checkpoints.public_bytes(Ed25519PrivateKey.from_private_bytes(b"l" * 32))
    assert checkpoints.verify(NOTE, key).size == 7
    assert old in NOTE
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.verify(NOTE.replace(old, new, 1), key)
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.verify(NOTE.removesuffix("\n"), key)


def test_extension_lines_are_signed_and_kept() -> None:
    log, witness = (Ed25519PrivateKey.from_private_bytes(seed * 32) for seed in (b"l", b"w"))
    stated = checkpoints.Checkpoint("log.example/simulated", 7, bytes(32), ("closed 2026-06",))
    note = checkpoints.sign(stated, log)
    assert checkpoints.verify(note, checkpoints.public_bytes(log)) == stated
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.verify(note.replace("06", "07"), checkpoints.public_bytes(log))
    line = checkpoints.cosign(stated, "w.example", witness, 1_780_000_000)
    bare = checkpoints.Checkpoint(stated.origin, 7, stated.root)
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.verify_cosignature(bare, line, "w.example", checkpoints.public_bytes(witness))
