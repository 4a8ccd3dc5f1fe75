"""Who may do what in Kafka: a login per part, and the least that each needs, in one table.

What the table does not grant is refused (`allow.everyone.if.no.acl.found` is off). Safe to apply
again: passwords are set anew, and rights of these logins that the table lacks are taken back.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,  # pyright: ignore[reportPrivateImportUsage]
    AclBindingFilter,  # pyright: ignore[reportPrivateImportUsage]
    AclOperation,  # pyright: ignore[reportPrivateImportUsage]
    AclPermissionType,  # pyright: ignore[reportPrivateImportUsage]
    AdminClient,
    ResourcePatternType,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
    ScramCredentialInfo,  # pyright: ignore[reportPrivateImportUsage]
    ScramMechanism,  # pyright: ignore[reportPrivateImportUsage]
    UserScramCredentialUpsertion,  # pyright: ignore[reportPrivateImportUsage]
)

from ledger_service.contract import topics
from ledger_service.contract.brokers import READER_GROUP, Brokers, refusal
from ledger_service.stack.errors import StackError
from ledger_service.stack.logins import kafka_login

_FILTER: Any = AclBindingFilter  # it takes None for "any", which its types do not
_WAIT_S = 30.0
_SCRAM_ITERATIONS = 8192


@dataclasses.dataclass(frozen=True)
class Right:
    """What a login may do, or must not: refusals go before grants."""

    login: str
    operations: tuple[str, ...]
    kind: str
    name: str
    """The whole name; with a * at its end, where names begin."""
    allowed: bool = True


_READ = ("READ",)
_WRITE = ("CREATE", "WRITE", "READ", "DESCRIBE_CONFIGS")
"""Whoever writes reads back where to go on, and looks whether the topic is kept for ever."""
_OURS = f"{topics.RESERVED}*"
TABLE = [
    Right("relay", _WRITE, "topic", _OURS),
    Right("relay", ("WRITE",), "transactional_id", f"{topics.RELAY_TRANSACTIONS}*"),
    Right("relay", ("DESCRIBE",), "group", READER_GROUP),
    Right("pipelines", _READ, "topic", _OURS),
    Right("pipelines", ("DESCRIBE",), "group", READER_GROUP),
    Right("verifier", _READ, "topic", _OURS),
    Right("verifier", ("DESCRIBE",), "group", READER_GROUP),
    Right("replay", _WRITE, "topic", "*"),
    Right("replay", ("ALL",), "topic", _OURS, allowed=False),
    Right("replay", ("ALL",), "topic", "__*", allowed=False),  # what Kafka keeps for itself
    Right("replay", ("WRITE",), "transactional_id", f"{topics.REPLAY_TRANSACTIONS}*"),
    Right("replay", ("DESCRIBE",), "group", READER_GROUP),
]
LOGINS = tuple(dict.fromkeys(right.login for right in TABLE))


def grant(admin: Brokers, passwords: Mapping[str, str]) -> None:
    """Make each login of `passwords` with its rights; returns once they are in force.

    Errors: `kafka_without_authorizer`, `kafka_logins_not_allowed`.
    """
    client = AdminClient({**admin.client(), "log_level": 0})
    try:
        _make_logins(client, passwords)
        _apply(client, {acl for right in TABLE for acl in _bindings(right)})
    except KafkaException as failure:
        said = refusal(failure)
        if failure.args[0].name() == "SECURITY_DISABLED":
            raise StackError(
                "kafka_without_authorizer",
                "The brokers check no rights: set authorizer.class.name and "
                "allow.everyone.if.no.acl.found=false there.",
            ) from None
        raise StackError(
            "kafka_logins_not_allowed",
            f"The login {admin.username!r} could not make the logins of the parts: {said.message} "
            "Give an administrator's, or make them by hand and run the parts with `tally run`.",
        ) from None


def _make_logins(client: AdminClient, passwords: Mapping[str, str]) -> None:
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _SCRAM_ITERATIONS)
    made = client.alter_user_scram_credentials(
        [
            UserScramCredentialUpsertion(kafka_login(login), scram, password.encode())
            for login, password in passwords.items()
        ],
        request_timeout=_WAIT_S,
    )
    for future in made.values():
        future.result()


def _apply(client: AdminClient, wanted: set[AclBinding]) -> None:
    found = _granted(client)
    changes: list[Any] = []
    if new := wanted - found:
        changes += client.create_acls([*new], request_timeout=_WAIT_S).values()
    if old := found - wanted:
        taken = [
            _FILTER(
                acl.restype, acl.name, acl.resource_pattern_type,
                acl.principal, acl.host, acl.operation, acl.permission_type,
            )
            for acl in old
        ]  # fmt: skip
        changes += client.delete_acls(taken, request_timeout=_WAIT_S).values()
    for future in changes:
        future.result()
    end = time.monotonic() + _WAIT_S
    while _granted(client) != wanted and time.monotonic() < end:
        time.sleep(0.05)


def _granted(client: AdminClient) -> set[AclBinding]:
    """What the logins of the table have now."""
    everything = _FILTER(
        ResourceType.ANY, None, ResourcePatternType.ANY,
        None, None, AclOperation.ANY, AclPermissionType.ANY,
    )  # fmt: skip
    found = client.describe_acls(everything, request_timeout=_WAIT_S).result()
    ours = {f"User:{kafka_login(login)}" for login in LOGINS}
    return {acl for acl in found if acl.principal in ours}


def _bindings(right: Right) -> list[AclBinding]:
    begins = right.name.endswith("*") and right.name != "*"
    return [
        AclBinding(
            ResourceType[right.kind.upper()],
            right.name.removesuffix("*") if begins else right.name,
            ResourcePatternType.PREFIXED if begins else ResourcePatternType.LITERAL,
            f"User:{kafka_login(right.login)}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW if right.allowed else AclPermissionType.DENY,
        )
        for operation in right.operations
    ]
