"""Several commands in one body: each says in `do` what it is, and is decoded on its own."""

from __future__ import annotations

import msgspec

from ledger_service.api.posting_bodies import CaptureBody, HoldBody, Seq, TransactionBody, VoidBody
from ledger_service.api.rule_bodies import AccrueBody, CapitalizeBody, ChargeBody
from ledger_service.domain.commands import Keyed


class PostItem(
    TransactionBody, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="post"
):
    """A transaction as one of several commands."""


class HoldItem(HoldBody, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="hold"):
    """A hold as one of several commands."""


class CaptureItem(
    CaptureBody,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="do",
    tag="capture",
    kw_only=True,
):
    """A capture as one of several commands."""

    hold: Seq


class VoidItem(
    VoidBody, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="void", kw_only=True
):
    """A void as one of several commands."""

    hold: Seq


class ChargeItem(
    ChargeBody, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="charge", kw_only=True
):
    """A fee as one of several commands."""

    rule: str


class AccrueItem(
    AccrueBody, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="accrue", kw_only=True
):
    """An accrual as one of several commands."""

    rule: str


class CapitalizeItem(
    CapitalizeBody,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="do",
    tag="capitalize",
    kw_only=True,
):
    """A capitalization as one of several commands."""

    rule: str


CommandItem = (
    PostItem | HoldItem | CaptureItem | VoidItem | ChargeItem | AccrueItem | CapitalizeItem
)


def item_command(body: CommandItem, ledger: str, actor: str, request_id: str) -> Keyed:
    """The command that an item stands for. Errors: `Problem`."""
    if isinstance(body, CaptureItem | VoidItem):
        return body.command(ledger, body.hold, actor, request_id)
    if isinstance(body, ChargeItem | AccrueItem | CapitalizeItem):
        return body.command(ledger, body.rule, actor, request_id)
    return body.command(ledger, actor, request_id)


class CommandsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several commands of any kind; each is decoded on its own."""

    commands: list[msgspec.Raw]
    linked: bool = False
    dry_run: bool = False
    """Of them all, each as if those before it were done."""
