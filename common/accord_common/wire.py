"""The headers that nodes and aggregator exchange over Flower; see SPEC.md, "Messages over Flower".

Guarantees: a header is canonical JSON of at most 1 MiB, its `type` decides what else it must hold,
and nothing more may stand in it. Envelopes inside are decoded strictly, but not verified.

Not covered: bulk chunks, which travel beside the header (`parcel`), and every question of trust.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints

from accord_common.api.wire import WireEnvelope
from accord_common.canonical import parse
from accord_common.errors import AccordError, FormatError
from accord_common.fields import Count, Hash, Record, Text
from accord_common.parcel import MAX_HEADER_BYTES

MODEL_CHUNK_BYTES = 8 << 20  # the model goes out in pieces of this size, the last one shorter
_MAX_COHORT = 50  # manifest.RunManifest.roster's bound
_MAX_MESSAGE = 4000  # characters: fields.Text's bound


class Advertise(Record):
    """Aggregator: send a mask key for this attempt. Answered by `AdvertisementReply`."""

    type: Literal["advertise"] = "advertise"
    manifest: Hash
    round: Count
    attempt: Count


class Train(Record):
    """Aggregator: train from the model in the bulk, mask for `cohort`. Answered by `UpdateReply`.

    `cohort` holds the advertisements in roster order, `model` is h_r, the hash of the bulk.
    """

    type: Literal["train"] = "train"
    manifest: Hash
    round: Count
    attempt: Count
    cohort: Annotated[list[WireEnvelope], Field(min_length=2, max_length=_MAX_COHORT)]
    model: Hash


class Finish(Record):
    """Aggregator: the run is over; `result` is its signed result. Answered by `Done`."""

    type: Literal["finish"] = "finish"
    manifest: Hash
    result: WireEnvelope


class AdvertisementReply(Record):
    """Node: my signed mask key for the attempt."""

    type: Literal["advertisement"] = "advertisement"
    envelope: WireEnvelope


class UpdateReply(Record):
    """Node: what the sealed chunks in the bulk are, and my mask key for the next attempt 0."""

    type: Literal["update"] = "update"
    upload: WireEnvelope
    next: WireEnvelope | None


class Refusal(Record):
    """Node: I do not do that, and why."""

    type: Literal["refusal"] = "refusal"
    code: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    message: Text


class Done(Record):
    """Node: I have taken note that the run is over."""

    type: Literal["done"] = "done"


Request = Advertise | Train | Finish
Reply = AdvertisementReply | UpdateReply | Refusal | Done

_M = TypeVar("_M", Request, Reply)

_REQUESTS: Mapping[str, type[Request]] = {
    "advertise": Advertise,
    "train": Train,
    "finish": Finish,
}
_REPLIES: Mapping[str, type[Reply]] = {
    "advertisement": AdvertisementReply,
    "update": UpdateReply,
    "refusal": Refusal,
    "done": Done,
}


def encode(message: Request | Reply) -> bytes:
    """Return a header's canonical bytes.

    Raises:
        FormatError: `header-too-large` above 1 MiB.
    """
    header = message.to_bytes()
    if len(header) > MAX_HEADER_BYTES:
        raise FormatError("header-too-large", f"{len(header)} B, at most {MAX_HEADER_BYTES} B")
    return header


def decode_request(header: bytes) -> Request:
    """Decode what the aggregator sent.

    Raises:
        FormatError: `unknown-message` for another type, else the codes of `Record.from_bytes` and
            `Envelope.from_bytes`.
    """
    return _decode(header, _REQUESTS)


def decode_reply(header: bytes) -> Reply:
    """Decode what a node answered; errors as above."""
    return _decode(header, _REPLIES)


def refusal(error: AccordError) -> Refusal:
    """Turn an error into an answer: code and message; the hint is for the node's own people."""
    text = "".join(c if c.isprintable() else " " for c in error.message)
    return Refusal(code=error.code, message=text[:_MAX_MESSAGE])


def _decode(header: bytes, kinds: Mapping[str, type[_M]]) -> _M:
    value = parse(header, max_bytes=MAX_HEADER_BYTES)
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise FormatError(
            "unknown-message", f"type {str(kind)[:40]!r} is none of {', '.join(sorted(kinds))}"
        )
    return kinds[kind].from_json(value)
