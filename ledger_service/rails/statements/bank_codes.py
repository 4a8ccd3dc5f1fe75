"""What a bank calls a movement: BAI2 type codes and ISO 20022 bank transaction codes by channel."""

from __future__ import annotations

from ledger_service.rails.statements.model import Format, LineSide

_CODES: dict[tuple[str, LineSide], tuple[str, str]] = {
    ("ach", "credit"): ("142", "PMNT-RCDT-ATXN"),
    ("ach", "debit"): ("455", "PMNT-ICDT-ATXN"),
    ("wire", "credit"): ("195", "PMNT-RCDT-DMCT"),
    ("wire", "debit"): ("495", "PMNT-ICDT-DMCT"),
    ("instant", "credit"): ("158", "PMNT-RRCT-DMCT"),
    ("instant", "debit"): ("458", "PMNT-IRCT-DMCT"),
    ("card", "credit"): ("399", "PMNT-CCRD-RIMB"),
    ("card", "debit"): ("699", "PMNT-CCRD-POSD"),
    ("cash", "credit"): ("301", "PMNT-CNTR-CDPT"),
    ("cash", "debit"): ("699", "PMNT-CNTR-CWDL"),
    ("check", "credit"): ("175", "PMNT-RCHQ-CCHQ"),
    ("check", "debit"): ("475", "PMNT-ICHQ-CCHQ"),
}


def bank_code(format_: Format, channel: str, side: LineSide) -> str:
    """The code of `format_` for money in or out by `channel`. Errors: KeyError."""
    bai2, iso = _CODES[(channel, side)]
    return bai2 if format_ == "bai2" else iso
