"""tally-verify: verify a pack of a ledger without the system that made it.

    python offline_verifier.py PACK --state FILE [--log-key BASE64] [--witness-key BASE64]

This one file needs Python and the package `cryptography`: copy it, read it, run it anywhere. It
trusts nobody:

1. every line of events.ndjson is hashed into a Merkle tree (RFC 6962);
2. the tree's root and size must be those that checkpoint.txt states;
3. the checkpoint must be signed by the log's key, and by the witness's where one is given;
4. the debits and credits of every transaction must be equal, in each currency;
5. with --state it remembers the checkpoint and the keys, and from then on demands that every later
   pack begins with exactly the events it has seen. So a history that is rewritten afterwards is
   found out, even if it is signed with the right key.

Exit 0: all of it holds. Exit 1: it does not, and the text says what.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Failure(Exception):
    """Something does not hold."""


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


class Tree:
    """Complete subtrees from left to right, each twice or more as large as the next."""

    def __init__(self) -> None:
        self.size = 0
        self.subtrees: list[tuple[int, bytes]] = []

    def append(self, leaf: bytes) -> None:
        height, node = 0, sha256(b"\x00" + leaf)
        while self.subtrees and self.subtrees[-1][0] == height:
            node = sha256(b"\x01" + self.subtrees.pop()[1] + node)
            height += 1
        self.subtrees.append((height, node))
        self.size += 1

    def root(self) -> bytes:
        if not self.subtrees:
            return sha256(b"")
        node = self.subtrees[-1][1]
        for _, left in reversed(self.subtrees[:-1]):
            node = sha256(b"\x01" + left + node)
        return node


def read_checkpoint(note: str) -> tuple[str, int, bytes, list[tuple[str, bytes]]]:
    """Origin, size, root and signature lines (name, raw bytes) of a signed note."""
    text, _, rest = note.partition("\n\n")
    origin, size, root = text.split("\n")[:3]
    lines = []
    for line in rest.splitlines():
        dash, name, coded = line.split(" ")
        if dash != "—":
            raise Failure("a signature line of the checkpoint is malformed")
        lines.append((name, base64.b64decode(coded)))
    return origin, int(size), base64.b64decode(root), lines


def key_id(name: str, kind: bytes, key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + kind + key)[:4]


def check_signature(note: str, key: bytes, kind: bytes, who: str) -> None:
    """Demand a valid signature of `key` on the note: kind 1 of the log, kind 4 of a witness."""
    origin, _, _, lines = read_checkpoint(note)
    text = note.partition("\n\n")[0] + "\n"
    for name, raw in lines:
        if raw[:4] != key_id(name, kind, key) or (kind == b"\x01" and name != origin):
            continue
        signature, signed = raw[4:], text
        if kind == b"\x04":
            seconds, signature = int.from_bytes(raw[4:12], "big"), raw[12:]
            signed = f"cosignature/v1\ntime {seconds}\n{text}"
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, signed.encode())
        except InvalidSignature:
            raise Failure(f"the signature of the {who} does not hold") from None
        return
    raise Failure(f"the checkpoint is not signed with the key of the {who}")


def check_event(line: bytes, seq: int) -> None:
    """Demand that the event is the one due, and that a transaction's debits equal its credits."""
    event = json.loads(line)
    if event["seq"] != seq:
        raise Failure(f"line {seq} holds the event with seq {event['seq']}")
    sums: dict[str, int] = {}
    for entry in event.get("entries", []):
        sign = {"debit": 1, "credit": -1}[entry["side"]]
        if not re.fullmatch("[1-9][0-9]*", entry["amount"]):
            raise Failure(f"seq {seq}: an amount is not a positive whole number")
        amount = int(entry["amount"])
        sums[entry["currency"]] = sums.get(entry["currency"], 0) + sign * amount
    if any(sums.values()):
        raise Failure(f"seq {seq}: debits and credits differ")


def read_events(pack: Path, remembered_size: object) -> tuple[Tree, str | None]:
    """The tree of all events, each checked, and the root (base64) at the remembered size."""
    tree, seen_root, unsound = Tree(), None, []
    with (pack / "events.ndjson").open("rb") as lines:
        for line in lines:
            tree.append(line.rstrip(b"\n"))
            try:
                check_event(line, tree.size)
            except Failure as failure:
                unsound.append(str(failure))
            except (KeyError, TypeError, ValueError):
                unsound.append(f"seq {tree.size}: this is no event")
            if tree.size == remembered_size:
                seen_root = base64.b64encode(tree.root()).decode()
    if unsound:
        raise Failure("; ".join(unsound[:5]))
    return tree, seen_root


def check_keys(note: str, remembered: dict[str, object], keys: dict[str, str]) -> None:
    """Demand the remembered keys, and their signatures on the checkpoint."""
    for name in ("log", "witness"):
        if remembered.get(name) and keys.get(name) != remembered[name]:
            raise Failure(f"the key of the {name} is not the one remembered")
    if not keys.get("log"):
        raise Failure("no key of the log: give --log-key")
    check_signature(note, base64.b64decode(keys["log"]), b"\x01", "log")
    if keys.get("witness"):
        check_signature(note, base64.b64decode(keys["witness"]), b"\x04", "witness")


def verify(pack: Path, remembered: dict[str, object], keys: dict[str, str]) -> dict[str, object]:
    """Check a pack against itself and what is remembered; gives what to remember from now on."""
    note = (pack / "checkpoint.txt").read_text()
    origin, size, root, _ = read_checkpoint(note)
    if remembered and remembered["origin"] != origin:
        raise Failure(f"the state is of {remembered['origin']}, the pack of {origin}")
    check_keys(note, remembered, keys)
    if remembered and size < int(str(remembered["size"])):
        raise Failure(f"{remembered['size']} events were seen before, this pack states {size}")
    tree, seen_root = read_events(pack, remembered.get("size"))
    if remembered and seen_root != remembered["root"]:
        raise Failure(
            f"HISTORY WAS REWRITTEN: the first {remembered['size']} events are not those seen"
        )
    if tree.size != size:
        raise Failure(f"the checkpoint states {size} events, the pack holds {tree.size}")
    if tree.root() != root:
        raise Failure("the events are not those whose root was signed")
    state = {"origin": origin, "size": size, "root": base64.b64encode(root).decode()}
    return {**state, "log": keys["log"], "witness": keys.get("witness", "")}


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description="Verify a pack of a ledger.")
    parser.add_argument("pack", type=Path)
    parser.add_argument("--state", type=Path, help="file that remembers the last checkpoint")
    parser.add_argument("--log-key", help="public key of the log in base64; default: the pack's")
    parser.add_argument("--witness-key", help="the same of the witness")
    options = parser.parse_args()
    try:
        keys = json.loads((options.pack / "keys.json").read_text())
        keys["log"] = options.log_key or keys.get("log", "")
        keys["witness"] = options.witness_key or keys.get("witness", "")
        state_file: Path | None = options.state
        known = state_file is not None and state_file.exists()
        remembered = json.loads(state_file.read_text()) if state_file and known else {}
        state = verify(options.pack, remembered, keys)
    except Failure as failure:
        print(f"NOT SOUND: {failure}")  # noqa: T201 - a command
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"NOT SOUND: this is no pack: {error}")  # noqa: T201
        return 1
    if options.state is not None:
        draft = options.state.with_name(options.state.name + ".new")
        draft.write_text(json.dumps(state))
        draft.replace(options.state)
    else:
        print("Nothing is remembered: with --state FILE a later pack must continue this one.")  # noqa: T201
    for name in ("log", "witness"):
        if not getattr(options, f"{name}_key") and name not in remembered and state[name]:
            print(f"The key of the {name} is the pack's own: compare it with what you were given.")  # noqa: T201
    if not state["witness"]:
        print("No witness's signature was checked.")  # noqa: T201
    print(f"SOUND: {state['size']} events of {state['origin']}, root {state['root']}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
