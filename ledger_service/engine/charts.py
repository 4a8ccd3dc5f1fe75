"""The charts of accounts that come with the product."""

from __future__ import annotations

from functools import cache
from importlib import resources

from ledger_service.domain.chart import Chart, load_chart


@cache
def known_charts() -> dict[str, Chart]:
    """Every chart, by name and version, e.g. `us_fintech_fbo/1`. Errors: `ChartError`."""
    folder = resources.files("ledger_service.domain") / "charts"
    texts = [file.read_text() for file in folder.iterdir() if file.name.endswith(".yaml")]
    return {chart.title: chart for chart in map(load_chart, texts)}
