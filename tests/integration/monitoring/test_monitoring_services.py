"""`monitor` and `console` as processes: ready with counts, gone on SIGTERM with exit 0."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests import servers
from tests.monitoring_house import House


def ready(url: str, process: subprocess.Popen) -> dict:
    """The body of /readyz once it says ready."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx.get(url + "/readyz", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if answer.status_code == 200:
            return answer.json()
        time.sleep(0.1)
    raise AssertionError(f"not ready; exit code {process.poll()}")


@pytest.mark.parametrize(
    ("module", "setting"),
    [
        ("monitoring.service", "TALLYSTICK_HEALTH_LISTEN"),
        ("monitoring.console.service", "TALLYSTICK_LISTEN"),
    ],
)
def test_a_service_gets_ready_and_drains(
    module: str, setting: str, monitoring_url: str, published: House, free_port
) -> None:
    port, home = free_port(), published.folder.parent
    settings = {
        "TALLYSTICK_HOME": str(home),
        "TALLYSTICK_DATABASE_URL": monitoring_url,
        "TALLYSTICK_API_URL": "http://127.0.0.1:9",
        setting: f"127.0.0.1:{port}",
    }
    command = [sys.executable, "-c", f"from {module} import main; main()"]
    with servers.running(command, home / "log", environment=settings) as process:
        body = ready(f"http://127.0.0.1:{port}", process)
        if module == "monitoring.service":
            assert (body["candidates"], body["alerts"]) == (3, {"open": 3})
        else:
            answer = httpx.get(
                f"http://127.0.0.1:{port}/alerts", cookies={"tallystick_session": "tss_x"}
            )
            assert answer.status_code == 503, "a ledger API that is away is said, not thrown"
            assert "does not answer" in answer.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, (home / "log").read_text()[-2000:]
