"""The chart of accounts: which ids exist, what each is in the books, which metadata is declared."""

from __future__ import annotations

import re

import msgspec
import yaml

from ledger_service.contract.events import AccountClass, Side


class ChartError(ValueError):
    """The chart's text can't be used; the message says where and why."""


class Rule(msgspec.Struct, frozen=True):
    """What accounts of one pattern are."""

    pattern: str
    account_class: AccountClass
    custodial: bool
    gl_code: str

    @property
    def normal_side(self) -> Side:
        """The side on which the balance grows: debit for assets and expenses."""
        return "debit" if self.account_class in ("asset", "expense") else "credit"


class Heading(msgspec.Struct, frozen=True):
    """A line of the general ledger."""

    code: str
    name: str
    parent: str | None = None
    """The code that it is rolled up into; None at the top."""


class Chart(msgspec.Struct, frozen=True):
    """A versioned chart: the first rule whose pattern fits an id decides."""

    name: str
    version: int
    rules: tuple[tuple[re.Pattern[str], Rule], ...]
    metadata: frozenset[str]
    headings: dict[str, Heading] = {}
    """The general ledger, by code."""

    @property
    def title(self) -> str:
        """Name and version as the ledger's event carries them, e.g. `us_fintech_fbo/1`."""
        return f"{self.name}/{self.version}"

    def rule(self, account: str) -> Rule | None:
        """What `account` is; None where no pattern fits (refused as `account_not_in_chart`)."""
        return next((rule for pattern, rule in self.rules if pattern.match(account)), None)

    def path(self, gl_code: str) -> list[str]:
        """`gl_code` and all that it is rolled up into, the top last. Errors: KeyError."""
        found = [gl_code]
        while parent := self.headings[found[-1]].parent:
            found.append(parent)
        return found


class _RuleText(msgspec.Struct, forbid_unknown_fields=True):
    pattern: str
    custodial: bool
    gl_code: str
    account_class: AccountClass = msgspec.field(name="class")


class _ChartText(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    version: int
    general_ledger: list[Heading]
    accounts: list[_RuleText]
    metadata: dict[str, str]


def _expression(pattern: str) -> re.Pattern[str]:
    segments: list[str] = []
    for segment in pattern.split(":"):
        if segment == "**":
            segments.append("[^:]+(?::[^:]+)*")
        elif segment == "*":
            segments.append("[^:]+")
        else:
            segments.append("(?:" + "|".join(re.escape(word) for word in segment.split("|")) + ")")
    return re.compile(":".join(segments) + r"\Z")


def load_chart(text: str) -> Chart:
    """A chart from its YAML text. Errors: `ChartError`."""
    try:
        chart = msgspec.convert(yaml.safe_load(text), _ChartText)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ChartError(f"chart of accounts: {error}") from error
    headings = _checked(chart)
    return Chart(
        chart.name,
        chart.version,
        tuple(
            (
                _expression(rule.pattern),
                Rule(rule.pattern, rule.account_class, rule.custodial, rule.gl_code),
            )
            for rule in chart.accounts
        ),
        frozenset(chart.metadata),
        headings,
    )


def _checked(chart: _ChartText) -> dict[str, Heading]:
    """The general ledger by code, if every roll-up is sound. Errors: `ChartError`."""
    headings = {heading.code: heading for heading in chart.general_ledger}
    if len(headings) < len(chart.general_ledger):
        raise ChartError("chart of accounts: a code of the general ledger is there twice")
    kinds: dict[str, tuple[AccountClass, bool]] = {}
    for rule in chart.accounts:
        kind = (rule.account_class, rule.custodial)
        code: str | None = rule.gl_code
        steps = 0
        while code is not None:
            if code not in headings:
                raise ChartError(f"chart of accounts: {code} is not in the general ledger")
            if kinds.setdefault(code, kind) != kind:
                raise ChartError(
                    f"chart of accounts: {code} would mix classes, or customers' money with our own"
                )
            steps += 1
            if steps > len(headings):
                raise ChartError(f"chart of accounts: {code} is rolled up into itself")
            code = headings[code].parent
    return headings
