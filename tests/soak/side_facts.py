"""What the soak's clients don't do: postings that count earlier, and a stream beside the journal."""

from __future__ import annotations

import datetime as dt
import random

import msgspec
import psycopg

from ledger_service.contract.events import encode, event_type, timestamp
from tests import ledger_events
from tests.asking import Ask, body_of
from tests.soak.beside import Beside
from tests.soak.client import BANK, CUSTOMERS, LEDGER
from tests.soak.cluster import Cluster

BROKEN = b'{"v":1,'
"""An event of the stream of parties that no reader can use."""
EVERY_S = 0.5
IN_ONE_OF = 4
"""So often a party comes with the posting, and a broken event with it."""


class SideFacts(Beside):
    """Writes them while the block runs."""

    def __init__(self, running: Cluster, seed: int) -> None:
        super().__init__(EVERY_S)
        self._http = running.http()
        self._owner_url = running.owner_url
        self._chance = random.Random(f"{seed}/side")
        self._number = 0

    def step(self) -> None:
        """One posting, and a party in its turn."""
        self._number += 1
        self._post()
        if self._number % IN_ONE_OF == 0:
            self._register()

    def _post(self) -> None:
        """Into a wallet, as of up to forty days ago; a frozen wallet takes nothing, and that is all."""
        amount, wallet = self._chance.randint(1, 50), self._chance.choice(CUSTOMERS)
        ago = dt.timedelta(days=self._chance.randint(0, 40))
        ask = Ask(
            f"backdated-{self._number}", "post", [(BANK, amount), (wallet, -amount)],
            effective_at=timestamp(dt.datetime.now(dt.UTC) - ago),
        )  # fmt: skip
        self._http.post(f"/v1/ledgers/{LEDGER}/transactions", json=body_of(ask))

    def _register(self) -> None:
        """A party in the stream, and behind it something that is none."""
        (event,) = ledger_events.parties(1)
        kind = event_type(event)
        with psycopg.connect(self._owner_url) as connection:
            row = connection.execute(
                "update stream.head set seq = seq + 2 where stream = 'parties' returning seq"
            ).fetchone()
            last = row[0] if row else 0
            party = msgspec.structs.replace(event, seq=last - 1, version=self._number)
            for seq, content in ((last - 1, encode(party)), (last, BROKEN)):
                connection.execute(
                    "insert into stream.event values ('parties', %s, %s, %s, now(), %s)",
                    [seq, kind, f"subject-{seq}", content],
                )
