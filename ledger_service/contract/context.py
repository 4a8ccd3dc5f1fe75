"""What the outside world calls a movement of money."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ledger_service.contract import forms

Channel = Literal["ach", "wire", "instant", "card", "cash", "check", "internal"]


class Context(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the outside world calls this movement; every field is a token, a code or a party id."""

    channel: Annotated[Channel, forms.MAY_GROW] = "internal"
    counterparty: forms.Token | None = None
    """Opaque token of the other side (a party id, an account id of ours, or a keyed hash)."""
    counterparty_bank: forms.Token | None = None
    counterparty_country: forms.Country | None = None
    """ISO 3166-1 alpha-2."""
    rail_reference: forms.Reference | None = None
    """The reference that the bank's statement will carry."""
    conductor: forms.Party | None = None
    """Party id of the person who handed over or took the cash, where that is not the owner."""
