"""Log lines: what looks personal is masked at any depth, and no traceback shows local variables."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import structlog
from ledger_service.contract import logs
logs.configure("test")
secret = "Ada Canary"
try:
    raise ValueError("bad value 078-05-1120 from the caller")
except ValueError:
    structlog.get_logger().exception(
        "test.failed", where={"deep": ["904417723651", "fine"]}, count=904417723651
    )
"""


def test_a_line_is_masked_and_shows_no_locals():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    line = json.loads(run.stderr)
    assert "078-05-1120" not in run.stderr
    assert "Ada Canary" not in run.stderr
    assert line["where"] == {"deep": ["[masked]", "fine"]}
    assert line["count"] == 904417723651
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert line["exception"][0]["exc_value"] == "[masked]"


IN_A_LOOP = """
import asyncio
import structlog
from ledger_service.contract import logs
logs.configure("test")
log = structlog.get_logger()

async def several():
    logs.request_id.set("3f2c")
    log.debug("test.not_asked_for")
    for number in range(3):
        log.info("test.in_loop", number=number)
    await asyncio.to_thread(lambda: log.info("test.in_thread"))
    log.info("test.last")

asyncio.run(several())
structlog.get_logger().info("test.after_loop")
"""


def test_every_line_is_written_within_a_loop_beside_it_and_after_it():
    run = subprocess.run(
        [sys.executable, "-c", IN_A_LOOP], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        *["test.in_loop"] * 3, "test.in_thread", "test.last", "test.after_loop",
    ]  # fmt: skip
    assert [line["number"] for line in lines[:3]] == [0, 1, 2]
    assert [line.get("request_id") for line in lines] == ["3f2c"] * 5 + [None]
    assert {(line["service"], line["level"]) for line in lines} == {("test", "info")}
