"""camt.053, the bank-to-customer statement of ISO 20022: read from version 02 up, written as 08.

The parser takes no entities, no document type and nothing from the network: a bank file is input
from outside. An XML Schema proves form only, so what carries meaning is checked here: currencies,
exact minor units, and the transaction summary where the bank gives one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from lxml import etree

from ledger_service.contract.money import MoneyError, exponent, to_minor
from ledger_service.rails.statements.model import Line, LineSide, Statement, StatementError

_NAMESPACE = re.compile(r"urn:iso:std:iso:20022:tech:xsd:camt\.053\.001\.(?:0[2-9]|[1-9][0-9])\Z")
_WRITTEN = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
_CODE = re.compile(r"[A-Z]{4}-[A-Z]{4}-[A-Z]{4}\Z")
_SIDES: dict[str | None, LineSide] = {"CRDT": "credit", "DBIT": "debit"}
_NO_REFERENCE = frozenset({"NOTPROVIDED", "NOT PROVIDED", "NONREF"})
# Most telling first: what the originator called it, then what the bank did.
_DETAIL_REFERENCES = ("EndToEndId", "InstrId", "TxId", "UETR", "AcctSvcrRef")


class _Node:
    """An element seen without its namespace: `text("Acct/Id/IBAN")`, `all("Ntry")`."""

    def __init__(self, element: etree._Element, prefix: str) -> None:
        self._element = element
        self._prefix = prefix

    @property
    def line(self) -> int | None:
        return self._element.sourceline

    def all(self, path: str) -> list[_Node]:
        full = "/".join(self._prefix + step for step in path.split("/"))
        return [_Node(found, self._prefix) for found in self._element.findall(full)]

    def text(self, *paths: str) -> str | None:
        """The text of the first of `paths` that holds any."""
        for path in paths:
            full = "/".join(self._prefix + step for step in path.split("/"))
            text = (self._element.findtext(full) or "").strip()
            if text:
                return text
        return None

    def attribute(self, path: str, name: str) -> str | None:
        found = self._element.find(self._prefix + path)
        return None if found is None else found.get(name)

    def has(self, path: str) -> bool:
        return bool(self.all(path))


def _document(raw: bytes) -> _Node:
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        remove_comments=True,
    )
    try:
        root = etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or None
        raise StatementError(
            "not_xml", "the file is no well-formed XML; ask the bank to send it again.", line
        ) from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise StatementError(
            "doctype_refused",
            "The file declares a document type, which no bank message needs; refused.",
        )
    for element in root.iter("{*}BkToCstmrStmt"):
        namespace = etree.QName(element).namespace or ""
        if _NAMESPACE.match(namespace):
            return _Node(element, f"{{{namespace}}}")
    raise StatementError(
        "not_camt053",
        "The file is XML but holds no camt.053 statement (versions 02 and up are read).",
    )


def _minor(node: _Node, path: str, currency: str) -> int:
    try:
        minor, _ = to_minor(node.text(path) or "", currency)
    except MoneyError as error:
        what = f"the amount is no exact amount of {currency} ({error.code}); ask the bank."
        raise StatementError(error.code, what, node.line) from None
    if minor < 0:
        raise StatementError(
            "bad_amount", "an amount has no sign (CdtDbtInd has it); ask the bank.", node.line
        )
    return minor


def _side(node: _Node) -> LineSide:
    side = _SIDES.get(node.text("CdtDbtInd"))
    if side is None:
        raise StatementError("bad_side", "CdtDbtInd must be CRDT or DBIT; ask the bank.", node.line)
    return side


def _date(node: _Node, path: str) -> dt.date | None:
    text = node.text(f"{path}/Dt", f"{path}/DtTm", path)
    if text is None:
        return None
    try:
        # The local date as the bank wrote it; a time zone would only move it to another day.
        return dt.date.fromisoformat(text[:10])
    except ValueError:
        raise StatementError(
            "bad_date", "a date is YYYY-MM-DD and exists; ask the bank.", node.line
        ) from None


def _balance(stmt: _Node, code: str, currency: str) -> tuple[int | None, dt.date | None]:
    """The signed balance of type `code` in the account's currency, and its date."""
    for balance in stmt.all("Bal"):
        if balance.text("Tp/CdOrPrtry/Cd") != code:
            continue
        date = _date(balance, "Dt")
        if balance.attribute("Amt", "Ccy") != currency:
            return None, date
        amount = _minor(balance, "Amt", currency)
        return (amount if _side(balance) == "credit" else -amount), date
    return None, None


def _reference(entry: _Node) -> str | None:
    """An entry of one transaction carries that one's reference; a collected entry its own."""
    details = entry.all("NtryDtls/TxDtls")
    if len(details) == 1:
        for name in _DETAIL_REFERENCES:
            found = details[0].text(f"Refs/{name}")
            if found and found.upper() not in _NO_REFERENCE:
                return found
    return entry.text("AcctSvcrRef", "NtryRef")


def _bank_code(entry: _Node) -> str:
    domain = [
        entry.text("BkTxCd/Domn/Cd"),
        entry.text("BkTxCd/Domn/Fmly/Cd"),
        entry.text("BkTxCd/Domn/Fmly/SubFmlyCd"),
    ]
    return "-".join(part for part in domain if part) or entry.text("BkTxCd/Prtry/Cd") or "NTAV"


def _line(entry: _Node, currency: str, booked_by_default: dt.date) -> Line | None:
    """None for what is not booked or moves no money."""
    if (entry.text("Sts/Cd", "Sts") or "BOOK") != "BOOK":
        return None
    if entry.attribute("Amt", "Ccy") != currency:
        raise StatementError(
            "entry_currency_differs",
            "an entry is in another currency than its account.",
            entry.line,
        )
    amount = _minor(entry, "Amt", currency)
    if not amount:
        return None
    booked = _date(entry, "BookgDt") or booked_by_default
    words = [entry.text("AddtlNtryInf")]
    words += [detail.text("RmtInf/Ustrd", "AddtlTxInf") for detail in entry.all("NtryDtls/TxDtls")]
    return Line(
        side=_side(entry),
        amount=amount,
        value_date=_date(entry, "ValDt") or booked,
        bank_code=_bank_code(entry),
        reference=_reference(entry),
        text="\n".join(word for word in words if word),
    )


def _check_summary(stmt: _Node, entries: list[_Node], currency: str) -> None:
    """Compare the transaction summary, where there is one, with the entries."""
    amounts: dict[LineSide, list[int]] = {"credit": [], "debit": []}
    for entry in entries:
        amounts[_side(entry)].append(_minor(entry, "Amt", currency))
    found = {
        "TtlNtries": amounts["credit"] + amounts["debit"],
        "TtlCdtNtries": amounts["credit"],
        "TtlDbtNtries": amounts["debit"],
    }
    for summary in stmt.all("TxsSummry"):
        for name, of_these in found.items():
            count = summary.text(f"{name}/NbOfNtries")
            wrong = count is not None and count.lstrip("0") != str(len(of_these)).lstrip("0")
            # The sum of all entries adds credits to debits: banks fill it in differently.
            if name != "TtlNtries" and summary.has(f"{name}/Sum"):
                wrong = wrong or _minor(summary, f"{name}/Sum", currency) != sum(of_these)
            if wrong:
                raise StatementError(
                    "control_differs",
                    f"{name} states something else than the entries hold: the file was changed or "
                    "is incomplete. Ask the bank to send it again.",
                    summary.line,
                )


def _statement(stmt: _Node) -> Statement:
    number = stmt.text("Acct/Id/IBAN", "Acct/Id/Othr/Id")
    if number is None:
        raise StatementError(
            "no_account_number", "the account has no number; ask the bank.", stmt.line
        )
    balances = stmt.all("Bal")
    currency = (
        stmt.text("Acct/Ccy") or (balances[0].attribute("Amt", "Ccy") if balances else None) or ""
    )
    try:
        exponent(currency)
    except MoneyError as error:
        raise StatementError(error.code, str(error), stmt.line) from None
    opening, _ = _balance(stmt, "OPBD", currency)
    if opening is None:
        opening, _ = _balance(stmt, "PRCD", currency)
    closing, closing_date = _balance(stmt, "CLBD", currency)
    date = closing_date or _date(stmt, "FrToDt/ToDtTm") or _date(stmt, "CreDtTm")
    if date is None:
        raise StatementError("no_date", "the statement has no date; ask the bank.", stmt.line)
    entries = stmt.all("Ntry")
    lines = [_line(entry, currency, date) for entry in entries]
    _check_summary(stmt, entries, currency)
    return Statement(
        number, currency, date, opening, closing, tuple(line for line in lines if line is not None)
    )


def read(raw: bytes) -> list[Statement]:
    """The statements of a message. Errors: StatementError."""
    statements = [_statement(stmt) for stmt in _document(raw).all("Stmt")]
    if not statements:
        raise StatementError("no_statement", "The message holds no statement (Stmt); ask the bank.")
    return statements


def _decimal(minor: int, currency: str) -> str:
    places = exponent(currency)
    digits = str(abs(minor)).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def _balance_xml(code: str, minor: int, statement: Statement) -> str:
    return (
        f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>"
        f'<Amt Ccy="{statement.currency}">{_decimal(minor, statement.currency)}</Amt>'
        f"<CdtDbtInd>{'CRDT' if minor >= 0 else 'DBIT'}</CdtDbtInd>"
        f"<Dt><Dt>{statement.statement_date}</Dt></Dt></Bal>"
    )


def _entry_xml(line: Line, statement: Statement) -> str:
    if _CODE.match(line.bank_code):
        domain, family, sub_family = line.bank_code.split("-")
        fmly = f"<Fmly><Cd>{family}</Cd><SubFmlyCd>{sub_family}</SubFmlyCd></Fmly>"
        code = f"<Domn><Cd>{domain}</Cd>{fmly}</Domn>"
    else:
        code = f"<Prtry><Cd>{escape(line.bank_code)}</Cd></Prtry>"
    reference = (
        f"<Refs><EndToEndId>{escape(line.reference)}</EndToEndId></Refs>" if line.reference else ""
    )
    words = f"<RmtInf><Ustrd>{escape(line.text)}</Ustrd></RmtInf>" if line.text else ""
    details = (
        f"<NtryDtls><TxDtls>{reference}{words}</TxDtls></NtryDtls>" if reference or words else ""
    )
    return (
        f'<Ntry><Amt Ccy="{statement.currency}">{_decimal(line.amount, statement.currency)}</Amt>'
        f"<CdtDbtInd>{'CRDT' if line.side == 'credit' else 'DBIT'}</CdtDbtInd>"
        f"<Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>{statement.statement_date}</Dt></BookgDt>"
        f"<ValDt><Dt>{line.value_date}</Dt></ValDt>"
        f"<BkTxCd>{code}</BkTxCd>{details}</Ntry>"
    )


def _summary_xml(statement: Statement) -> str:
    parts = [f"<TtlNtries><NbOfNtries>{len(statement.lines)}</NbOfNtries></TtlNtries>"]
    for side, name in (("credit", "TtlCdtNtries"), ("debit", "TtlDbtNtries")):
        amounts = [line.amount for line in statement.lines if line.side == side]
        total = _decimal(sum(amounts), statement.currency)
        parts.append(f"<{name}><NbOfNtries>{len(amounts)}</NbOfNtries><Sum>{total}</Sum></{name}>")
    return f"<TxsSummry>{''.join(parts)}</TxsSummry>"


def write(statements: Sequence[Statement], *, message_id: str, created: dt.datetime) -> bytes:
    """One message. `created` is UTC. A line's text must be what XML can carry."""
    moment = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    head = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{_WRITTEN}"><BkToCstmrStmt>'
        f"<GrpHdr><MsgId>{escape(message_id)}</MsgId><CreDtTm>{moment}</CreDtTm></GrpHdr>"
    )
    parts = [head]
    for index, statement in enumerate(statements, 1):
        parts.append(
            f"\n<Stmt><Id>{escape(message_id)}-{index}</Id><CreDtTm>{moment}</CreDtTm>"
            f"<FrToDt><FrDtTm>{statement.statement_date}T00:00:00</FrDtTm>"
            f"<ToDtTm>{statement.statement_date}T23:59:59</ToDtTm></FrToDt>"
            f"<Acct><Id><Othr><Id>{escape(statement.account_number)}</Id></Othr></Id>"
            f"<Ccy>{statement.currency}</Ccy></Acct>"
        )
        if statement.opening_balance is not None:
            parts.append(_balance_xml("OPBD", statement.opening_balance, statement))
        if statement.closing_balance is not None:
            parts.append(_balance_xml("CLBD", statement.closing_balance, statement))
        parts.append(_summary_xml(statement))
        parts += [f"\n{_entry_xml(line, statement)}" for line in statement.lines]
        parts.append("</Stmt>")
    parts.append("</BkToCstmrStmt></Document>\n")
    return "".join(parts).encode()
