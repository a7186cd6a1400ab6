"""Every field that a node may send, and why it may: whatever is not declared here fails the test.

public      a constant of a record that all parties have: the value is compared with the record
charged     stands in the node's ledger, so that a cap has paid for it
place       which round and attempt; follows from the aggregator's request
hash        of a record or a vector that is itself known, or one value for all nodes
key, sig    fresh public keys, signatures: random to others, of one length
cipher      sealed or masked: of a length that follows from public constants alone
echo        what registry or aggregator said before on this very connection or process
time        when: what timing tells is not hidden (SPEC.md, "Limits")
secret      proves who speaks to the registry; says nothing
"""

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from accord_client.refusals import SILENT, TOLD
from accord_client.returning import RETURNS
from accord_common.manifest import RunManifest
from accord_common.privacy.events import Spend

_SHARE_BYTES, _TAG_BYTES = 33, 16


@dataclass(slots=True)
class Known:
    """What everybody knows, as far as it concerns one node.

    Attributes:
        named: `<record>.<field>` -> the values that records have there.
        hashes: of all records and vectors that others have too.
        heard: all that this node's processes were told.
        manifest: of the run, by its hash.
    """

    named: dict[str, set[Any]] = field(default_factory=dict)
    hashes: set[str] = field(default_factory=set)
    heard: bytes = b""
    manifests: dict[str, RunManifest] = field(default_factory=dict)


Check = Callable[[Any, Known], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One class of field.

    Attributes:
        label: as above.
        holds: whether a value may leave.
        fixed: its values have one length, whatever they say.
        own: its values name the site, so they differ from another's.
    """

    label: str
    holds: Check
    fixed: bool = True
    own: bool = False


def _public(name: str) -> Rule:
    return Rule("public", lambda v, k: v in k.named[name])


def _own(name: str) -> Rule:
    return Rule("public", lambda v, k: v in k.named[name], own=True)


def _always(*values: Any) -> Rule:
    return Rule("public", lambda v, k: v in values)


def _charged(name: str) -> Rule:
    return Rule("charged", lambda v, k: v in k.named[f"ledger.{name}"])


def _text(pattern: str) -> Check:
    return lambda v, k: isinstance(v, str) and re.fullmatch(pattern, v) is not None


def _time(value: Any, known: Known) -> bool:
    return datetime.fromisoformat(value).tzinfo is not None


def _said(value: Any, known: Known) -> bool:
    """A text as it was told, or a number as protobuf or JSON told it."""
    text = str(value)
    if text.encode() in known.heard:
        return True
    return text.isdigit() and _varint(int(text)) in known.heard


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _size(value: Any, count: int) -> bool:
    return isinstance(value, str) and len(value) == 2 * count


def _answers(value: Any, known: Known) -> bool:
    """R4: one share of each member of U2, which is all of the roster or all but one here."""
    rosters = {m.n - absent for m in known.manifests.values() for absent in (0, 1)}
    return any(_size(value, n * _SHARE_BYTES + _TAG_BYTES) for n in rosters)


def _words(value: Any, known: Known) -> bool:
    return any(
        len(value) == m.dimension * m.secagg.ring_bits // 8 + _TAG_BYTES
        for m in known.manifests.values()
    )


def _upload_bytes(value: Any, known: Known) -> bool:
    return _words(b"\0" * value, known)


HASH = Rule("hash", lambda v, k: v in k.hashes)
KEY = Rule("key", _text("[0-9a-f]{64}"))
SIGNATURE = Rule("sig", lambda v, k: len(b64decode(v, validate=True)) == 64)
TIME = Rule("time", _time)
MOMENT = Rule("time", lambda v, k: isinstance(v, float), fixed=False)
ECHO = Rule("echo", _said, fixed=False)
ROUND = Rule("place", lambda v, k: type(v) is int and 0 <= v < max(k.named["manifest.rounds"]))
ATTEMPT = Rule("place", lambda v, k: v == 0)
PARTY = _own("profile.party")
MANIFEST = Rule("public", lambda v, k: v in k.manifests)

_MESSAGE = {"manifest": MANIFEST, "round": ROUND, "attempt": ATTEMPT, "party": PARTY}
_METADATA: Mapping[str, Rule] = {
    "run_id": ECHO,
    "message_id": HASH,
    "src_node_id": ECHO,
    "dst_node_id": _always("1"),
    "reply_to_message_id": ECHO,
    "group_id": ECHO,
    "message_type": _always("train"),
    "ttl": MOMENT,
    "created_at": MOMENT,
}


def _of(kind: str, *parts: Mapping[str, Rule], **fields: Rule) -> dict[str, Rule]:
    rules: dict[str, Rule] = dict(fields)
    for part in parts:
        rules |= part
    return {f"{kind}.{name}": rule for name, rule in rules.items()}


def _head(kind: str) -> dict[str, Rule]:
    """A head of the log: what the registry signed; the newest when this site asked."""

    def said(name: str) -> Rule:
        return Rule("echo", lambda v, k: v in k.named[f"checkpoint.{name}"], fixed=name != "size")

    return {f"{kind}.log.{name}": said(name) for name in ("size", "root", "created", "signature")}


def _type(name: str) -> dict[str, Rule]:
    return {f"{name}.type": _always(name)}


FIELDS: dict[str, Rule] = {
    # Joining
    "ca": Rule("public", lambda v, k: v in k.named["ca"]),
    "code": Rule("secret", _text("[A-Za-z0-9_-]{43}")),
    **_of(
        "enrolment",
        party=PARTY,
        name=_own("profile.name"),
        role=_always("data-holder"),
        identity_key=_own("profile.identity_key"),
        jurisdiction=_public("profile.jurisdiction"),
        contact=_own("profile.contact"),
        created=TIME,
    ),
    **_of(
        "delegation",
        party=PARTY,
        node_key=_own("own.key"),
        flower_key=Rule("key", _text("0[23][0-9a-f]{96}")),
        previous=_always(None),
        valid_from=TIME,
        valid_until=TIME,
    ),
    "signature.keyid": _own("own.key"),
    "signature.sig": SIGNATURE,
    # What the steward declares about a table; `agreement.*` is the record as all have it
    "id": _own("dataset.id"),
    "name": _public("dataset.name"),
    "population": _own("dataset.population"),
    "size": _public("dataset.size"),
    "unit": _public("dataset.unit"),
    # Records
    **_of(
        "consent",
        manifest=MANIFEST,
        party=PARTY,
        dataset=_own("dataset.id"),
        delegation=_own("site.delegation"),
        decision=_always("accept"),
        code=_always(""),
        reason=_always(""),
        ledger_head=HASH,
        nonce=KEY,
        created=TIME,
    ),
    **_of(
        "node-receipt",
        _MESSAGE,
        previous=HASH,
        model=HASH,
        upload=HASH,
        upload_bytes=Rule("cipher", _upload_bytes),
        created=TIME,
    ),
    **{f"node-receipt.ledger.{name}": _charged(name) for name in ("sequence", "previous")},
    "node-receipt.ledger.recorded": _charged("recorded"),
    **{
        f"node-receipt.ledger.spend.{name}": _charged(f"spend.{name}")
        for name in Spend.model_fields
    },
    # Messages of a round
    **_of("advertisement", _MESSAGE, mask_key=KEY, channel_key=KEY),
    **_head("consent"),
    **_head("node-receipt"),
    **_head("advertisement"),
    **_type("advertisement"),
    **_of("shares", _MESSAGE, cohort=HASH),
    **_type("shares"),
    "shares.sealed.*": Rule("cipher", lambda v, k: _size(v, 2 * _SHARE_BYTES + _TAG_BYTES)),
    **_of(
        "upload",
        _MESSAGE,
        model=HASH,
        cohort=HASH,
        sharers=HASH,
        root=HASH,
        ephemeral_key=KEY,
        words=_public("manifest.dimension"),
        chunks=_always(1),
    ),
    **_type("update"),
    "update.next": _always(None),
    "update.next.type": _always("refusal"),
    "update.next.code": _always("budget-exceeded", *sorted(RETURNS)),
    "update.next.message": _always(*(TOLD[code] for code in ("budget-exceeded", *sorted(RETURNS)))),
    "chunk": Rule("cipher", _words),
    **_of("confirmation", _MESSAGE, model=HASH, cohort=HASH, sharers=HASH, uploads=HASH),
    **_type("confirmation"),
    "confirmation.shares": _always(None),
    **_of("unmasking", _MESSAGE, uploads=HASH, ephemeral_key=KEY),
    **_type("unmasking"),
    "unmasking.sealed": Rule("cipher", _answers),
    **_type("refusal"),
    "refusal.code": _always(*TOLD, "node-error"),
    "refusal.message": _always(*TOLD.values(), SILENT),
    **_type("done"),
    # Flower's frame around them
    "public_key": _own("flower.public_key"),
    "heartbeat_interval": _always(30.0),
    "node.node_id": ECHO,
    "run_id": ECHO,
    "session_id": ECHO,
    "object_id": Rule("hash", lambda v, k: v in k.hashes or _said(v, k)),
    **{f"messages_list.metadata.{name}": rule for name, rule in _METADATA.items()},
    **{f"Message.metadata.{name}": rule for name, rule in _METADATA.items()},
    **{f"message_object_trees{'.children' * deep}.object_id": HASH for deep in range(5)},
    "clientapp_runtime_list": _always(0.0),
    **{f"{kind} child": HASH for kind in ("Message", "RecordDict", "ArrayRecord", "Array")},
    "RecordDict.header": HASH,
    "RecordDict.bulk": HASH,
    "ArrayRecord.bulk": HASH,
    "Array.dtype": _always("uint8"),
    "Array.shape": Rule("cipher", _upload_bytes),
    "Array.stype": _always("accord.chunks"),
    "Array.arraychunk_ids": _always(0),
}

_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_HASH = "[0-9a-f]{64}"


def field_of(path: str) -> str:
    """A leaf's path without the ids in it."""
    return re.sub(_ID, "*", path)


def rule_of(path: str) -> Rule:
    """The rule for a field; AssertionError for one that nobody has declared."""
    name = field_of(path)
    if name.startswith(("agreement.", "table.")):  # as agreed, or as it was agreed later
        return _public(name)
    assert name in FIELDS, f"nobody has declared what {name!r} tells: see fields.py"
    return FIELDS[name]


ENDPOINTS: dict[str, frozenset[str]] = {
    "GET /v1/ca.pem": frozenset(),
    "PUT /v1/trust": frozenset({"ca"}),
    "POST /v1/enrolments": frozenset({"code", "enrolment", "delegation", "signature"}),
    "POST /v1/datasets": frozenset({"id", "name", "population", "table", "size", "unit"}),
    "GET /v1/datasets/#": frozenset(),
    "GET /v1/agreements/#": frozenset(),
    "POST /v1/agreements": frozenset({"agreement", "signature"}),
    "GET /v1/inbox": frozenset(),
    "GET /v1/records": frozenset(),
    "GET /v1/records/#": frozenset(),
    "POST /v1/records": frozenset({"consent", "node-receipt", "signature"}),
    "GET /v1/log/checkpoint": frozenset(),
    "GET /v1/log/consistency": frozenset(),
    "GET /v1/runs": frozenset(),
    "GET /v1/runs/#": frozenset(),
    "GET /v1/info": frozenset(),
    "GET /livez": frozenset(),
    "GET /v1/partners/#": frozenset(),
    "POST /v1/fleet/activate-node": frozenset({"public_key", "heartbeat_interval"}),
    "POST /v1/accord/line": frozenset({"node"}),
    "POST /v1/fleet/pull-messages": frozenset({"node"}),
    "POST /v1/fleet/pull-object": frozenset({"node", "run_id", "object_id"}),
    "POST /v1/fleet/push-messages": frozenset(
        {"node", "messages_list", "message_object_trees", "clientapp_runtime_list"}
    ),
    "POST /v1/fleet/push-object": frozenset(
        {"node", "run_id", "object_id", "session_id", "signature", "chunk"}
        | {"Message", "RecordDict", "ArrayRecord", "Array"}
        | {"Message child", "RecordDict child", "ArrayRecord child", "Array child"}
        | {"advertisement", "shares", "update", "upload", "confirmation", "unmasking"}
        | {"refusal", "done"}
    ),
}
"""Method and path -> the first names of the fields that may stand in a body there."""

POLLS = frozenset(name for name in ENDPOINTS if name.startswith("GET ")) | {
    "POST /v1/fleet/pull-messages",
    "POST /v1/fleet/pull-object",
    "POST /v1/fleet/activate-node",
    "POST /v1/accord/line",
    "PUT /v1/trust",
}
"""How often these come is a matter of timing."""

FRAME = frozenset({"node", "run_id", "object_id", "session_id", "clientapp_runtime_list"}) | {
    name
    for kind in ("messages_list", "message_object_trees", "Message", "RecordDict")
    for name in (kind, f"{kind} child")
}
"""First names of fields that stand around every message alike."""

QUERIES: dict[str, Check] = {
    "limit": lambda v, k: v == "500",
    "kind": lambda v, k: v in ("withdrawal", "suspension", "resumption", "node-receipt"),
    "wait": lambda v, k: v in ("0.0", "30.0"),
    "after": lambda v, k: v == "0" or _said(v, k),
    "first": lambda v, k: int(v) in k.named["checkpoint.size"],
    "second": lambda v, k: int(v) in k.named["checkpoint.size"],
    "run": lambda v, k: v in k.named["manifest.id"],
}

HEADERS: dict[str, Check] = {
    "host": _text(r"127\.0\.0\.1:[0-9]+"),
    "accept": _text(r"\*/\*"),
    "accept-encoding": _text("gzip, deflate|identity"),
    "connection": _text("keep-alive"),
    "user-agent": _text(r"(accord|python-httpx)/[0-9.]+"),
    "content-type": _text("application/(json|protobuf)"),
    "authorization": _text("Bearer accord_[A-Za-z0-9_-]{43}"),
    "flwr-public-key": lambda v, k: v in k.named["flower.public_key"],
    "flwr-timestamp": _time,
    "flwr-signature": lambda v, k: len(b64decode(v, validate=True)) <= 104,  # DER, P-384
}
"""Beside `content-length`, which is compared with the body."""


def endpoint_of(method: str, path: str) -> tuple[str, list[str]]:
    """An endpoint's name, and the ids in the path."""
    ids = re.findall(f"(?<=/)(?:{_ID}|{_HASH})(?=/|$)", path)
    return f"{method} {re.sub(f'(?<=/)(?:{_ID}|{_HASH})(?=/|$)', '#', path)}", ids
