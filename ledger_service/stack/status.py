"""`tally status`: what runs, where, how large, and whether it is ready."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from pathlib import Path
from typing import Any

import psutil

from ledger_service.stack import probes, servers, services, settings, supervision
from ledger_service.stack.home import Home
from ledger_service.stack.services import Part

_HTTP = ("api", "bank", "console", "dagster-webserver")


def report(home: Home) -> dict[str, dict[str, Any]]:
    """Per service: state, pid, uptime_s, rss_mb, peak_rss_mb, processes, ports, url, ready, probe
    (why it is not ready) and figures (what it says of itself). Empty where nothing was started."""
    if not (home / "supervisor").is_dir():
        return {}
    states = supervision.Supervisor(home).processes()
    parts = [part for part in services.known().values() if _concerns(home, part, states)]
    with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
        lines = pool.map(lambda part: _line(home, part, states.get(part.name, {})), parts)
        return {part.name: line for part, line in zip(parts, lines, strict=True)}


def _concerns(home: Home, part: Part, states: dict[str, dict[str, Any]]) -> bool:
    if part.kind == "step":
        return False
    return servers.is_elsewhere(home, part) or (
        part.name in states and (part.default or states[part.name]["pid"])
    )


def _line(home: Home, part: Part, state: dict[str, Any]) -> dict[str, Any]:
    elsewhere = servers.is_elsewhere(home, part)
    name = "ELSEWHERE" if elsewhere else state.get("statename", "STOPPED")
    name = "STOPPED" if name == "EXITED" and not state.get("exitstatus") else name
    pid = state.get("pid") or None
    asked = elsewhere or pid is not None
    reason = servers.probe(home, part) if asked else None
    line: dict[str, Any] = {
        "state": name,
        "pid": pid,
        "uptime_s": round(time.time() - state["start"], 1) if pid else 0,
        **_memory(pid),
        "ports": {} if elsewhere else {port: home.port(port) for port in part.ports},
        "url": _url(home, part),
        "ready": asked and reason is None,
        "probe": reason,
        "log": str(supervision.log_file(home, part.name)),
    }
    if part.kind == "service" and pid:
        line["figures"] = probes.figures(servers.readiness_url(home, part))
    return line


def _url(home: Home, part: Part) -> str | None:
    """Where the part is reached, without credentials."""
    if part.name in _HTTP:
        return f"http://{home.address(part.name)}"
    if servers.is_elsewhere(home, part):
        address = settings.given(home, part.name) or ""
        return address.rpartition("@")[2]
    return (
        home.address(part.ports[0])
        if part.ports and not part.ports[0].endswith(".health")
        else None
    )


def _memory(pid: int | None) -> dict[str, Any]:
    """Memory of a process and its descendants, in MB, pages that they share counted once."""
    if pid is None:
        return {"rss_mb": 0.0, "peak_rss_mb": 0.0, "processes": 0}
    resident = peak = count = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error, OSError):
                now, most = _resident(process)
                resident, peak, count = resident + now, peak + max(now, most), count + 1
    return {
        "rss_mb": round(resident / 2**20, 1),
        "peak_rss_mb": round(peak / 2**20, 1),
        "processes": count,
    }


def _resident(process: psutil.Process) -> tuple[int, int]:
    """Bytes now and at most. PostgreSQL's processes share most of theirs, so their share counts."""
    now = process.memory_info().rss
    try:
        now = process.memory_full_info().pss
        shared = process.memory_info().rss - now
        status = Path(f"/proc/{process.pid}/status").read_text()
        high = next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")
        )
    except (AttributeError, psutil.AccessDenied, OSError, StopIteration):
        return now, now
    return now, high - shared
