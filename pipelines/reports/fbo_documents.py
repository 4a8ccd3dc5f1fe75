"""The daily FBO reconciliation on paper: CSV for machines, PDF for people.

Nothing here knows the time: the same day from the same snapshot gives the same bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reportlab.lib import colors
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from ledger_service.contract.money import exponent, format_minor
from pipelines.publication.tables import no_formula

if TYPE_CHECKING:
    from reportlab.pdfgen.canvas import Canvas

    from pipelines.reports.fbo import FboDay, Origin

_LINES = (
    ("Bank's closing balance", "bank_closing"),
    ("Ledger's cash at the bank", "ledger_closing"),
    ("Customers", "customers"),
    ("In transit", "in_transit"),
    ("Difference, bank less ledger", "difference_bank_ledger"),
    ("Difference, ledger less customers and in transit", "difference_ledger_customers"),
    ("Explained by open breaks and timing", "explained_difference"),
)
_CSV_COLUMNS: tuple[str, ...] = (
    "record", "ledger", "account", "bank", "statement_date", "item", "currency", "exponent",
    "amount_minor", "bank_amount_minor", "ledger_amount_minor", "difference_minor", "status",
    "opened_date", "reference", "statement", "line_no", "seq", "explanation",
)  # fmt: skip
_STATUS_WORDS = {
    "reconciled": "Reconciled: no difference, no open break.",
    "explained": "Explained: the difference is the sum of the items listed below and of timing.",
    "unexplained": "UNEXPLAINED: a difference remains that no item accounts for.",
}
_INK, _QUIET, _RULE = (
    colors.HexColor("#1b2430"),
    colors.HexColor("#5c6877"),
    colors.HexColor("#d5dbe3"),
)
_STATUS_COLORS = {
    "reconciled": colors.HexColor("#1f7a4d"),
    "explained": colors.HexColor("#8a6100"),
    "unexplained": colors.HexColor("#b3261e"),
}
_TITLE = ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=18, leading=22, textColor=_INK)
_QUIET_TEXT = ParagraphStyle(
    "quiet", fontName="Helvetica", fontSize=9, leading=12, textColor=_QUIET
)
_HEADING = ParagraphStyle(
    "heading", fontName="Helvetica-Bold", fontSize=11, leading=15, textColor=_INK, spaceBefore=12
)
_CELL = ParagraphStyle("cell", fontName="Helvetica", fontSize=8, leading=10, textColor=_INK)


def as_csv(day: FboDay, origin: Origin) -> bytes:
    """One row per line of each account, per break, and one on the origin. Amounts: minor units."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    same = {"ledger": day.ledger, "statement_date": day.day.isoformat()}
    writer.writerow({"record": "origin", **same, "item": _origin_words(origin)})
    for account in day.accounts:
        shared = {**same, **_pick(account, "account", "bank", "currency", "status")}
        shared["exponent"] = exponent(account["currency"])
        for _, field in _LINES:
            writer.writerow(
                {"record": "balance", **shared, "item": field, "amount_minor": account[field]}
            )
    for one in day.breaks:
        writer.writerow(
            {
                "record": "break",
                **same,
                **_pick(one, "account", "bank", "currency", "line_no", "seq"),
                "item": one["kind"],
                "exponent": exponent(one["currency"]),
                "bank_amount_minor": one["bank_amount"],
                "ledger_amount_minor": one["ledger_amount"],
                "difference_minor": one["difference"],
                "opened_date": one["opened_date"].isoformat(),
                "reference": no_formula(one["reference"] or ""),
                "statement": no_formula(one["statement"] or ""),
                "explanation": no_formula(one["explanation"] or ""),
            }
        )
    return text.getvalue().encode()


def _pick(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: "" if row[name] is None else row[name] for name in names}


def _origin_words(origin: Origin) -> str:
    words = f"snapshot {origin.snapshot_version}, as of seq {origin.as_of_seq}"
    if origin.checkpoint is None:
        return f"{words}, no checkpoint yet"
    one = origin.checkpoint
    return f"{words}, checkpoint {one.origin} size {one.size} root {one.root}"


def as_pdf(day: FboDay, origin: Origin) -> bytes:
    """One report, designed for US Letter."""
    target = io.BytesIO()
    document = SimpleDocTemplate(
        target, pagesize=LETTER, invariant=1, leftMargin=0.8 * inch, rightMargin=0.8 * inch,
        topMargin=0.8 * inch, bottomMargin=0.9 * inch,
        title=f"FBO reconciliation {day.ledger} {day.day.isoformat()}", author="Tallystick",
    )  # fmt: skip
    story: list[Any] = [
        Paragraph("Daily FBO reconciliation", _TITLE),
        Paragraph(
            f"{day.ledger} &nbsp;·&nbsp; {day.day:%A, %B} {day.day.day}, {day.day.year}",
            _QUIET_TEXT,
        ),
        Spacer(1, 10),
    ]
    for account in day.accounts:
        story += _account(account)
    story += _breaks(day)
    footer = _footer(origin)
    document.build(story, onFirstPage=footer, onLaterPages=footer)
    return target.getvalue()


def _account(account: dict[str, Any]) -> list[Any]:
    currency = account["currency"]
    rows = [
        [label, "" if account[field] is None else format_minor(int(account[field]), currency)]
        for label, field in _LINES
    ]
    style = TableStyle(
        [
            ("FONT", (0, 0), (-1, -1), "Helvetica", 10),
            ("FONT", (0, 4), (-1, 5), "Helvetica-Bold", 10),
            ("TEXTCOLOR", (0, 0), (-1, -1), _INK),
            ("ALIGN", (1, 0), (1, -1), "RIGHT"),
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE),
            ("LINEABOVE", (0, 4), (-1, 4), 1.0, _INK),
            ("TOPPADDING", (0, 0), (-1, -1), 5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
        ]
    )
    words = ParagraphStyle(
        "status", parent=_QUIET_TEXT, fontName="Helvetica-Bold",
        textColor=_STATUS_COLORS[account["status"]], spaceBefore=6,
    )  # fmt: skip
    return [
        Paragraph(f"{account['account']} at {account['bank']}, {currency}", _HEADING),
        Table(rows, colWidths=[4.6 * inch, 2.3 * inch], style=style),
        Paragraph(_STATUS_WORDS[account["status"]], words),
    ]


def _breaks(day: FboDay) -> list[Any]:
    heading = Paragraph(f"Open breaks: {len(day.breaks)}", _HEADING)
    if not day.breaks:
        return [heading, Paragraph("Bank and ledger agree on every item.", _QUIET_TEXT)]
    header = ["Since", "What", "Bank's side", "Ledger's side", "Difference"]
    rows: list[list[Any]] = [header]
    for one in day.breaks:
        currency = one["currency"]
        bank = f"{one['statement'] or ''} {one['line_no'] or ''}".strip()
        ledger = f"{day.ledger}/{one['seq']}" if one["seq"] else ""
        rows.append(
            [
                one["opened_date"].isoformat(),
                Paragraph(
                    f"<b>{one['kind'].replace('_', ' ')}</b><br/>{_xml(one['explanation'])}", _CELL
                ),
                Paragraph(
                    f"{format_minor(int(one['bank_amount']), currency)}<br/>{_xml(bank)}", _CELL
                ),
                Paragraph(
                    f"{format_minor(int(one['ledger_amount']), currency)}<br/>{_xml(ledger)}", _CELL
                ),
                format_minor(int(one["difference"]), currency),
            ]
        )
    style = TableStyle(
        [
            ("FONT", (0, 0), (-1, -1), "Helvetica", 8),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 8),
            ("TEXTCOLOR", (0, 0), (-1, 0), _QUIET),
            ("ALIGN", (4, 0), (4, -1), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE),
        ]
    )
    widths = [0.75 * inch, 2.45 * inch, 1.4 * inch, 1.3 * inch, 1.0 * inch]
    return [heading, Table(rows, colWidths=widths, style=style, repeatRows=1)]


def _xml(text: str | None) -> str:
    return (text or "").replace("&", "&amp;").replace("<", "&lt;")


def _footer(origin: Origin) -> Callable[[Canvas, Any], None]:
    lines = [
        f"Snapshot {origin.snapshot_version} · as of seq {origin.as_of_seq} · code {origin.code_version}",
        "No checkpoint yet"
        if origin.checkpoint is None
        else f"Checkpoint {origin.checkpoint.origin} · size {origin.checkpoint.size} · "
        f"root {origin.checkpoint.root}",
    ]

    def draw(canvas: Canvas, document: Any) -> None:
        canvas.saveState()
        canvas.setFont("Helvetica", 7)
        canvas.setFillColor(_QUIET)
        for number, line in enumerate(lines):
            canvas.drawString(0.8 * inch, (0.6 - 0.14 * number) * inch, line)
        canvas.drawRightString(7.7 * inch, 0.6 * inch, f"Page {document.page}")
        canvas.restoreState()

    return draw
