"""The console's own verification: RFC 6962 paths, signed notes; nothing false passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_service.contract import events
from monitoring.proofs import (
    Keys,
    ProofError,
    climb,
    continues,
    leaf_hash,
    public_key,
    read_checkpoint,
)
from tests.merkle import consistency, path, root
from tests.monitoring_house import House
from tests.monitoring_ledger import StandIn


def test_every_leaf_of_every_small_tree_climbs_to_its_root() -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(41)]
    for size in range(1, len(leaves) + 1):
        top = root(leaves[:size])
        for index in range(size):
            steps = climb(leaves[index], index, size, path(index, leaves[:size]))
            assert (steps[-1].result if steps else leaves[index]) == top


def test_a_path_that_does_not_fit_is_refused() -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(11)]
    good = path(3, leaves)
    for wrong in (good[:-1], [*good, leaves[0]]):
        with pytest.raises(ProofError):
            climb(leaves[3], 3, 11, wrong)
    with pytest.raises(ProofError):
        climb(leaves[3], 11, 11, good)
    assert climb(leaves[3], 2, 11, good)[-1].result != root(leaves), "another place is another root"
    changed = [good[0][:-1] + bytes([good[0][-1] ^ 1]), *good[1:]]
    assert climb(leaves[3], 3, 11, changed)[-1].result != root(leaves)


def test_every_small_tree_continues_each_earlier_one_and_no_other() -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(34)]
    for second in range(1, len(leaves) + 1):
        top = root(leaves[:second])
        for first in range(1, second + 1):
            before, proof = root(leaves[:first]), consistency(first, leaves[:second])
            assert continues(first, before, second, top, proof)
            other = bytes([before[0] ^ 1]) + before[1:]
            assert not continues(first, other, second, top, proof), "another root before"
            assert not continues(first, before, second, other, proof), "another root after"
            assert not continues(first, before, second, top, [*proof, before])
            assert not (proof and continues(first, before, second, top, proof[:-1]))
    assert not continues(0, root(leaves), 5, root(leaves), [])


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(House(tmp_path))


def test_signatures_of_log_and_witness_are_checked(stand_in: StandIn) -> None:
    keys = Keys(stand_in.public(stand_in.log_key), stand_in.public(stand_in.witness_key))
    good = read_checkpoint(stand_in.note(), keys)
    assert good.signed_by("log")
    assert good.signed_by("witness")
    assert good.root == root([leaf_hash(events.encode(event)) for event in stand_in.house.journal])

    forged = read_checkpoint(
        stand_in.note().replace(f"\n{good.size}\n", f"\n{good.size + 1}\n"), keys
    )
    assert not forged.signed_by("log")
    assert not forged.signed_by("witness")
    swapped = read_checkpoint(stand_in.note(), Keys(keys.witness, keys.log))
    assert not swapped.signed_by("log"), "a witness is not the log"
    unknown = read_checkpoint(stand_in.note(), Keys(None, None))
    assert {signature.kind for signature in unknown.signatures} == {"unknown"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\nAAAA",
        "a\nx\nAAAA\n\n— n AAAA\n",
        "a\n1\nAAAA\n\nno dash\n",
        "a\n1\nAAAA\n\n— n !!!\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        read_checkpoint(text, Keys(bytes(32), None))


def test_public_keys_are_32_bytes() -> None:
    assert public_key("") is None
    for text in ("AAAA", "not base64!"):
        with pytest.raises(ProofError):
            public_key(text)
