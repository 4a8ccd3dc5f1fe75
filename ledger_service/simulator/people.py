"""Invented customers. Their names and numbers go to the party vault and nowhere else."""

from __future__ import annotations

import dataclasses
import random
from importlib import resources
from typing import Any

import yaml

_NAMES: dict[str, list[str]] = yaml.safe_load(
    (resources.files("ledger_service.simulator") / "names.yaml").read_text()
)


@dataclasses.dataclass(frozen=True, slots=True)
class Customer:
    """A person and the accounts of that person. `number` counts from 0."""

    number: int
    personal: dict[str, Any]
    """For the vault only."""
    accounts: tuple[str, ...]
    """The first one takes the pay."""

    @property
    def main(self) -> str:
        """The everyday account."""
        return self.accounts[0]


def make_customers(rng: random.Random, count: int) -> list[Customer]:
    """`count` customers; about one in six saves in a second account.

    The SSNs are in the range 900 to 999, which is never issued.
    """
    customers: list[Customer] = []
    serials = rng.sample(range(10**8), count)
    for number, serial in enumerate(serials):
        digits = f"9{serial:08d}"
        born = f"{rng.randint(1945, 2006)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        street = f"{rng.randint(1, 999)} {rng.choice(_NAMES['streets'])} St"
        personal = {
            "kind": "person",
            "name": f"{rng.choice(_NAMES['first'])} {rng.choice(_NAMES['last'])}",
            "tax_id": f"{digits[:3]}-{digits[3:5]}-{digits[5:]}",
            "birth_date": born,
            "address": f"{street}, {rng.choice(_NAMES['cities'])}",
            "country": "US",
            "risk_tier": rng.choices(("low", "medium", "high"), (85, 13, 2))[0],
        }
        purposes = ("checking", "savings") if rng.random() < 1 / 6 else ("checking",)
        accounts = tuple(f"customer:{number:05d}:{purpose}" for purpose in purposes)
        customers.append(Customer(number, personal, accounts))
    return customers
