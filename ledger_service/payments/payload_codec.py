"""What Temporal stores is encrypted, and bound to the workflow that it belongs to.

AES-256-GCM with the workflow's id as associated data: whoever can write to Temporal's store can
neither read a payload nor move it to another workflow. Messages and stack traces of failures go the
same way. The key's id stands in the metadata, so that a later key can be told from an earlier one.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

_ENCODING = b"binary/tallystick-aes-gcm"
_NONCE_BYTES = 12


class PayloadError(ValueError):
    """A payload that is not ours, was changed, belongs to another workflow, or has another key."""


class BoundCodec(PayloadCodec, WithSerializationContext):
    """Encrypts payloads of one workflow; made for each by `with_context`."""

    def __init__(self, key: bytes, workflow_id: str | None = None) -> None:
        """`key`: 32 bytes. Errors: ValueError for another length."""
        self._key = key
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"tallystick payload key" + key).hexdigest()[:16].encode()
        self._workflow_id = workflow_id

    def with_context(self, context: SerializationContext) -> Self:
        """The codec of the workflow that `context` names."""
        if isinstance(context, WorkflowSerializationContext | ActivitySerializationContext):
            return type(self)(self._key, context.workflow_id)
        return self

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt. Errors: `PayloadError` outside a workflow."""
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt. Errors: `PayloadError`; plain ones are refused: anybody could send one."""
        return [self._decrypt(payload) for payload in payloads]

    def _binding(self) -> bytes:
        if self._workflow_id is None:
            raise PayloadError("A payload belongs to a workflow; this one was given none.")
        return self._workflow_id.encode()

    def _encrypt(self, payload: Payload) -> Payload:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, payload.SerializeToString(), self._binding())
        return Payload(
            metadata={"encoding": _ENCODING, "key_id": self._key_id}, data=nonce + sealed
        )

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != _ENCODING:
            raise PayloadError("The payload is not encrypted; only this service writes payloads.")
        if payload.metadata.get("key_id") != self._key_id:
            raise PayloadError("The payload has another key: check TALLYSTICK_PAYLOAD_KEY.")
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            return Payload.FromString(self._cipher.decrypt(nonce, sealed, self._binding()))
        except InvalidTag:
            raise PayloadError("The payload was changed or belongs to another workflow.") from None


def data_converter(key_base64: str) -> DataConverter:
    """Temporal's converter with our codec. Errors: ValueError where the key is not 32 bytes."""
    key = base64.b64decode(key_base64, validate=True)
    if len(key) != 32:
        raise ValueError("TALLYSTICK_PAYLOAD_KEY must be 32 bytes in base64.")
    return dataclasses.replace(
        DataConverter.default,
        payload_codec=BoundCodec(key),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
