"""What both kill loops are told on the command line, and how they end where nothing answers."""

from __future__ import annotations

import argparse
import random
import signal
from collections.abc import Collection


def parser_of(
    description: str | None, kills: int, sabotages: Collection[str]
) -> argparse.ArgumentParser:
    """Kills, a seed, and what to break on purpose."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--sabotage", default="", choices=["", *sabotages])
    parser.add_argument("--controls", action="store_true", help="every sabotage; all must be found")
    return parser


def give_up_after(seconds: int) -> None:
    """End this process after so long, or at SIGTERM, in a way that stops what it started."""
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, _give_up)
    signal.alarm(seconds)


def _give_up(*_: object) -> None:
    raise SystemExit("stopped: the soak did not come to its end, something may answer nothing")
