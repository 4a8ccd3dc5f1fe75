"""The policy of reversals, the digest of what is approved, and the encryption of payloads."""

from __future__ import annotations

import base64
import json

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import WorkflowSerializationContext

from ledger_service.domain.approval import approval_digest, reversal_content
from ledger_service.domain.commands import approval_of, reverse_transaction
from ledger_service.payments.payload_codec import BoundCodec, PayloadError, data_converter
from ledger_service.payments.reversal_policy import PolicyError, ReversalRefusal, read_policy

ASKED = {
    "ledger": "simulated",
    "transaction": 7,
    "amount": "1250",
    "reason": "duplicate",
    "reversal": "rev_1",
}
ORDINARY = {
    "kind": "transfer",
    "imposed": False,
    "age_days": 3,
    "amount": 5_000,
    "reason": "duplicate",
}


def test_the_package_policy_lets_an_ordinary_reversal_wait_for_its_approver():
    policy = read_policy("")
    small = policy.time_for_approval(**ORDINARY)
    large = policy.time_for_approval(**{**ORDINARY, "amount": 10**12})
    assert small.total_seconds() == 72 * 3600
    assert large.total_seconds() == 24 * 3600


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"reason": "because"}, "unknown_reason"),
        ({"kind": "reversal"}, "not_reversible"),
        ({"imposed": True}, "not_reversible"),
        ({"age_days": 91}, "too_old_to_reverse"),
    ],
)
def test_a_refusal_names_the_rule(change, rule):
    with pytest.raises(ReversalRefusal) as refused:
        read_policy("").time_for_approval(**{**ORDINARY, **change})
    assert (refused.value.code, refused.value.rule) == ("reversal_refused_by_policy", rule)


def test_an_amount_without_a_band_is_refused(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(
        "{name: tight, version: 2, reasons: [duplicate], never_reversed: [], maximum_age_days: 5, "
        "bands: [{up_to: '100', approval_within_hours: 1}]}"
    )
    with pytest.raises(ReversalRefusal) as refused:
        read_policy(str(file)).time_for_approval(**ORDINARY)
    assert refused.value.rule == "amount_beyond_policy"


WHOLE = """
name: x
version: 1
reasons: [duplicate]
never_reversed: []
maximum_age_days: 1
bands: [{approval_within_hours: 1}]
"""


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("version: 1", ""),
        ("hours: 1}", "hours: 1, approval_needed: false}"),
        ("hours: 1}", "hours: 0}"),
        ("hours: 1}", "hours: 1, up_to: 12.5}"),
        ("hours: 1}", "hours: 1, up_to: '-5'}"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_with_the_settings_name(tmp_path, part, instead):
    file = tmp_path / "policy.yaml"
    file.write_text(WHOLE)
    read_policy(str(file))
    file.write_text(WHOLE.replace(part, instead))
    with pytest.raises(PolicyError, match="TALLYSTICK_REVERSAL_POLICY"):
        read_policy(str(file))


def test_the_digest_is_that_of_the_canonical_content_and_of_the_command_that_executes():
    content = reversal_content(**ASKED)
    shuffled = json.loads(json.dumps(dict(reversed(content.items()))))
    command = reverse_transaction(
        "simulated", "any key", reverses=7, approval="apr_1", actor="key_1", amount="1250",
        reason="duplicate", reversal="rev_1",
    )  # fmt: skip
    assert approval_digest(content) == approval_digest(shuffled)
    assert approval_of("simulated", command) == (command.approval, approval_digest(content))
    assert (
        approval_digest(content)
        == "b7974fc790a15d4290186e09cda67d842c0eeefd71f63d3a22638927eb49255c"
    )


@pytest.mark.parametrize("field", ["ledger", "transaction", "amount", "reason", "reversal"])
def test_every_field_of_what_is_approved_changes_the_digest(field):
    other = {**ASKED, field: 8 if field == "transaction" else "other"}
    assert approval_digest(reversal_content(**ASKED)) != approval_digest(reversal_content(**other))


def codec_of(workflow_id: str, key: bytes = b"k" * 32) -> BoundCodec:
    return BoundCodec(key).with_context(WorkflowSerializationContext("default", workflow_id))


async def test_a_payload_is_unreadable_and_bound_to_its_workflow_and_key():
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b'"apr_secret"')
    [sealed] = await codec_of("reversal-1").encode([plain])
    assert b"apr_secret" not in sealed.SerializeToString()
    assert await codec_of("reversal-1").decode([sealed]) == [plain]

    changed = Payload.FromString(sealed.SerializeToString())
    changed.data = changed.data[:-1] + bytes([changed.data[-1] ^ 1])
    for codec, payload in [
        (codec_of("reversal-2"), sealed),
        (codec_of("reversal-1", b"K" * 32), sealed),
        (codec_of("reversal-1"), changed),
        (codec_of("reversal-1"), plain),
        (BoundCodec(b"k" * 32), sealed),
    ]:
        with pytest.raises(PayloadError):
            await codec.decode([payload])


def test_a_payload_key_of_another_length_is_refused():
    with pytest.raises(ValueError, match="TALLYSTICK_PAYLOAD_KEY"):
        data_converter(base64.b64encode(b"short").decode())
