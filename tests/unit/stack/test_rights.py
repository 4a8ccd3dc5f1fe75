"""Kafka's table of rights is the documents'."""

from __future__ import annotations

import re

from ledger_service.contract import topics
from ledger_service.stack import services
from ledger_service.stack.kafka import rights
from ledger_service.stack.logins import kafka_login
from tests.documents import ROOT


def test_the_documents_give_each_login_what_the_table_gives_it():
    text = (ROOT / "docs" / "operations.md").read_text()
    written = re.findall(r"^\| `(tallystick-\w+)` \| (\w+) `(.+)` \| (.+) \|$", text, re.MULTILINE)
    assert written == [
        (
            kafka_login(right.login),
            right.kind,
            right.name,
            ("" if right.allowed else "never ") + ", ".join(right.operations),
        )
        for right in rights.TABLE
    ]


def test_every_part_that_reaches_kafka_has_a_login_of_the_table():
    parts = [*services.TABLE.values(), *services.COMMANDS.values()]
    reaching = {part.kafka for part in parts if "KAFKA_PASSWORD" in part.settings}
    assert reaching == set(rights.LOGINS)


def test_who_writes_to_topics_of_ours_is_the_relay_alone():
    writers = {
        right.login
        for right in rights.TABLE
        if right.allowed and "WRITE" in right.operations and right.name.startswith(topics.RESERVED)
    }
    assert writers == {"relay"}
    refused = {right.login for right in rights.TABLE if not right.allowed}
    everywhere = {right.login for right in rights.TABLE if right.allowed and right.name == "*"}
    assert everywhere == refused == {"replay"}
