"""How envelopes travel in the API's JSON: as objects, decoded strictly by whoever receives them."""

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from accord_common.canonical import canonical_bytes, parse
from accord_common.envelope import MAX_ENVELOPE_BYTES, Envelope
from accord_common.errors import FormatError


def envelope_to_json(envelope: Envelope) -> dict[str, Any]:
    """Return the envelope's canonical JSON as values."""
    value = parse(envelope.to_bytes(), max_bytes=MAX_ENVELOPE_BYTES)
    if not isinstance(value, dict):
        raise FormatError("bad-record", "an envelope is a JSON object")
    return value


def envelope_from_json(value: Any) -> Envelope:
    """Decode an envelope from JSON values; the same refusals as `Envelope.from_bytes`."""
    if isinstance(value, Envelope):
        return value
    return Envelope.from_bytes(canonical_bytes(value))


_SCHEMA = {
    "type": "object",
    "title": "Envelope",
    "description": "DSSE v1 envelope of a signed record (SPEC.md, Bytes)",
    "required": ["payload", "payloadType", "signatures"],
    "additionalProperties": False,
    "properties": {
        "payload": {"type": "string", "format": "byte"},
        "payloadType": {
            "type": "string",
            "pattern": r"^application/vnd\.accord\.[a-z]+(-[a-z]+)*\+json$",
        },
        "signatures": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["keyid", "sig"],
                "additionalProperties": False,
                "properties": {
                    "keyid": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                    "sig": {"type": "string", "format": "byte", "maxLength": 88},
                },
            },
        },
    },
}

WireEnvelope = Annotated[
    Envelope,
    PlainValidator(envelope_from_json),
    PlainSerializer(envelope_to_json, return_type=dict[str, Any]),
    WithJsonSchema(_SCHEMA),
]
