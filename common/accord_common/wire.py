"""The headers that nodes and aggregator exchange over Flower; see SPEC.md, "Messages over Flower".

Guarantees: a header is canonical JSON of at most 1 MiB, its `type` decides what else it must hold,
and nothing more may stand in it. Envelopes inside are decoded strictly, but not verified.

Not covered: bulk chunks, which travel beside the header (`parcel`), and every question of trust.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from accord_common.api.wire import WireEnvelope
from accord_common.canonical import parse
from accord_common.errors import AccordError, FormatError
from accord_common.fields import Count, Hash, Id, Record, Slug, Text
from accord_common.manifest import MAX_ROSTER
from accord_common.parcel import MAX_HEADER_BYTES
from accord_common.secagg.messages import SealedShares

MODEL_CHUNK_BYTES = 8 << 20  # the model goes out in pieces of this size, the last one shorter
_MAX_MESSAGE = 4000  # characters: fields.Text's bound

_Cohort = Annotated[list[WireEnvelope], Field(min_length=2, max_length=MAX_ROSTER)]
_Sharers = Annotated[list[Id], Field(min_length=2, max_length=MAX_ROSTER)]
_Sealed = Annotated[dict[Id, SealedShares], Field(min_length=1, max_length=MAX_ROSTER)]
_Uploads = Annotated[dict[Id, Hash], Field(min_length=2, max_length=MAX_ROSTER)]


class Advertise(Record):
    """Aggregator, R0: send your keys for this attempt. Answered by `AdvertisementReply`."""

    type: Literal["advertise"] = "advertise"
    manifest: Hash
    round: Count
    attempt: Count


class Share(Record):
    """Aggregator, R1: share your secrets among U1. Answered by `SharesReply`.

    `cohort` holds the advertisements of U1 in roster order.
    """

    type: Literal["share"] = "share"
    manifest: Hash
    round: Count
    attempt: Count
    cohort: _Cohort


class Train(Record):
    """Aggregator, R2: train from the model in the bulk, mask for U2. Answered by `UpdateReply`.

    `cohort` is H(U1), the one shared among; `sharers` is U2 in roster order; `sealed` maps each
    other member of U2 to the shares it sealed for this node; `model` is h_r, the bulk's hash.
    """

    type: Literal["train"] = "train"
    manifest: Hash
    round: Count
    attempt: Count
    cohort: Hash
    sharers: _Sharers
    sealed: _Sealed
    model: Hash


class Confirm(Record):
    """Aggregator, R3: sign which uploads arrived. Answered by `ConfirmationReply`.

    `uploads` maps each of U3 to its upload's record hash; `next` is R1 of a later attempt, which
    rides along, or null.
    """

    type: Literal["confirm"] = "confirm"
    manifest: Hash
    round: Count
    attempt: Count
    uploads: _Uploads
    next: Share | None


class Unmask(Record):
    """Aggregator, R4: so many have confirmed; answer with your shares. By `UnmaskingReply`."""

    type: Literal["unmask"] = "unmask"
    manifest: Hash
    round: Count
    attempt: Count
    confirmations: _Cohort


class Finish(Record):
    """Aggregator: the run is over; `result` is its signed result. Answered by `Done`."""

    type: Literal["finish"] = "finish"
    manifest: Hash
    result: WireEnvelope


class AdvertisementReply(Record):
    """Node: my signed keys for the attempt."""

    type: Literal["advertisement"] = "advertisement"
    envelope: WireEnvelope


class SharesReply(Record):
    """Node: my secrets, shared among U1, each share sealed to its holder."""

    type: Literal["shares"] = "shares"
    envelope: WireEnvelope


class Refusal(Record):
    """Node: I do not do that, and why."""

    type: Literal["refusal"] = "refusal"
    code: Slug
    message: Text


class UpdateReply(Record):
    """Node: what the sealed chunks in the bulk are, and my answer to R0 of the next round.

    `next` holds my keys for its attempt 0, or why there are none; null after the last round.
    """

    type: Literal["update"] = "update"
    upload: WireEnvelope
    next: Annotated[Refusal | WireEnvelope | None, Field(union_mode="left_to_right")]


class ConfirmationReply(Record):
    """Node: the lists that I was told; and, where R1 rode along, my shares for that attempt.

    `shares` is null where nothing rode along, or where the node cannot take part in it.
    """

    type: Literal["confirmation"] = "confirmation"
    envelope: WireEnvelope
    shares: WireEnvelope | None


class UnmaskingReply(Record):
    """Node: one share for each of U2, sealed to the aggregator."""

    type: Literal["unmasking"] = "unmasking"
    envelope: WireEnvelope


class Done(Record):
    """Node: I have taken note that the run is over."""

    type: Literal["done"] = "done"


Request = Advertise | Share | Train | Confirm | Unmask | Finish
Reply = (
    AdvertisementReply
    | SharesReply
    | UpdateReply
    | ConfirmationReply
    | UnmaskingReply
    | Refusal
    | Done
)

_M = TypeVar("_M", Request, Reply)

_REQUESTS: Mapping[str, type[Request]] = {
    "advertise": Advertise,
    "share": Share,
    "train": Train,
    "confirm": Confirm,
    "unmask": Unmask,
    "finish": Finish,
}
_REPLIES: Mapping[str, type[Reply]] = {
    "advertisement": AdvertisementReply,
    "shares": SharesReply,
    "update": UpdateReply,
    "confirmation": ConfirmationReply,
    "unmasking": UnmaskingReply,
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
