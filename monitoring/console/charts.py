"""Geometry of charts that templates draw as SVG. Money stays integer up to the last step: only
positions on the screen are fractions.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Sequence

import msgspec

from monitoring.console.formats import day, money, short_money

WIDTH, HEIGHT = 760, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 28


class Tick(msgspec.Struct, frozen=True):
    """A mark on an axis: where, and what it says."""

    position: float
    label: str


class Point(msgspec.Struct, frozen=True):
    """A day on a chart; `title` is shown when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    title: str
    state: str = ""


class Chart(msgspec.Struct, frozen=True):
    """A line, or bars; axes included."""

    width: int
    height: int
    left: float
    right: float
    baseline: float
    points: list[Point]
    line: str
    y_ticks: list[Tick]
    x_ticks: list[Tick]


class Day(msgspec.Struct, frozen=True):
    """One value of a chart, in minor units."""

    day: dt.date
    value: int
    state: str = ""


def _steps(low: int, high: int, exponent: int) -> list[int]:
    """About four round values from low to high, in minor units."""
    span = max(high - low, 4 * 10**exponent)
    magnitude = 10 ** int(math.log10(span / 4))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if span <= 4 * magnitude * factor)
    first = math.floor(low / step)
    return [step * number for number in range(first, math.ceil(high / step) + 1)] or [0]


def chart(days: Sequence[Day], *, exponent: int, currency: str, zero: bool = False) -> Chart | None:
    """A line over days, and bars from zero for the same days. None for no days.

    `zero` starts the axis at zero; without it the axis spans the values, which shows small changes
    of large balances. Such a line has no area under it, which would tell of amounts by its size.
    """
    if not days:
        return None
    values = [item.value for item in days]
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0), max(high, 0)
    steps = _steps(low, high, exponent)
    low, high = steps[0], max(steps[-1], steps[0] + 1)
    first, last = days[0].day, days[-1].day
    span = max((last - first).days, 1)
    plot = WIDTH - _LEFT - _RIGHT
    bar = max(min(plot / (span + 1) * 0.7, 22), 1.5)

    def x(when: dt.date) -> float:
        inset = bar / 2 if zero else 0
        return round(_LEFT + inset + (plot - 2 * inset) * (when - first).days / span, 2)

    def y(value: int) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low), 2)

    baseline = y(min(max(low, 0), high))
    points = [
        Point(
            x=x(item.day),
            y=y(item.value),
            width=round(bar, 2),
            height=round(abs(y(item.value) - baseline), 2),
            title=f"{day(item.day)}: {money(item.value, exponent)} {currency}",
            state=item.state,
        )
        for item in days
    ]
    line = " ".join(
        f"{'L' if number else 'M'}{point.x} {point.y}" for number, point in enumerate(points)
    )
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        baseline=baseline,
        points=points,
        line=line,
        y_ticks=[Tick(y(value), short_money(value, exponent)) for value in steps],
        x_ticks=[Tick(x(when), f"{when.day} {when:%b}") for when in _spread(first, last)],
    )


def _spread(first: dt.date, last: dt.date) -> list[dt.date]:
    """Up to six days from first to last, evenly."""
    span = (last - first).days
    number = min(span, 5)
    return (
        [first + dt.timedelta(days=round(span * part / number)) for part in range(number + 1)]
        if number
        else [first]
    )


class Share(msgspec.Struct, frozen=True):
    """One bar of the FBO equation: `x` and `width` in thousandths of the widest."""

    x: float
    width: float


def shares(*groups: Sequence[int]) -> list[list[Share]]:
    """Bars that stand side by side within a group, all groups to one scale.

    A negative part hangs back from the end of the one before it, so a group always ends at its sum.
    """
    reaches = []
    for group in groups:
        total, edges = 0, [0]
        for value in group:
            total += value
            edges.append(total)
        reaches.append(edges)
    low = min(min(edges) for edges in reaches)
    span = max(max(edges) for edges in reaches) - low or 1
    return [
        [
            Share(
                x=round(1000 * (min(start, end) - low) / span, 1),
                width=round(1000 * abs(end - start) / span, 1),
            )
            for start, end in itertools.pairwise(edges)
        ]
        for edges in reaches
    ]
