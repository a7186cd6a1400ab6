"""An exported ledger, read by somebody who does not have it: does it hold, and what was spent?

The file: one envelope a line (canonical JSON, line feed), in this order: the `ledger-header`, each
`delegation` that the node has had, every `ledger-rule`, every `ledger-entry`.

Guarantees: the institution's key named the node's keys, which signed header, rules and entries;
nothing is missing before the newest of each; one attempt is charged once; figures follow from the
events alone.

Not covered: whether newer entries were left out, and whether the node did what it attests.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from accord_common.enrolment import DELEGATION, Delegation, verify_delegation
from accord_common.envelope import MAX_ENVELOPE_BYTES, Envelope
from accord_common.errors import AccordError, FormatError, VerificationError
from accord_common.fields import Hash, Id, PublicKey
from accord_common.privacy.accounting import Tally
from accord_common.privacy.events import LEDGER_ENTRY, NO_PREDECESSOR, LedgerEntry
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.ledger_chain import (
    LEDGER_HEADER,
    broken,
    check_signer,
    follow,
    read_header,
)
from accord_common.privacy.rules import LEDGER_RULE, LedgerRule, Rules
from accord_common.receipts import NodeReceipt


@dataclass(frozen=True, slots=True)
class Exported:
    """A ledger whose every signature holds.

    Attributes:
        identity: the institution key that the file rests on; compare it with the partner's.
        node_keys: the node's, the present one last.
        head: hash of the newest entry, 64 zeros where there is none.
    """

    ledger: Id
    party: Id
    identity: PublicKey
    node_keys: tuple[PublicKey, ...]
    orders: tuple[float, ...]
    rules: Rules
    entries: tuple[LedgerEntry, ...]
    head: Hash

    @property
    def populations(self) -> list[Id]:
        """Those that anything was charged to, sorted."""
        return sorted({entry.spend.population for entry in self.entries})

    def tally(self, population: Id, *, overlapping: bool = False) -> Tally:
        """Sum what was charged to a population, or to all that overlap it."""
        group = self.rules.group(population) if overlapping else [population]
        return Tally.of(e.spend for e in self.entries if e.spend.population in group)

    def epsilon(self, population: Id, delta: str, *, overlapping: bool = False) -> float:
        """Return the filter's epsilon of that, with the ledger's own orders."""
        rule = RdpFilter(Cap(epsilon="0", delta=delta), self.orders)
        return rule.epsilon(self.tally(population, overlapping=overlapping))


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's lines, none of them longer than `read_export` lets a line be, but for one."""
    yield from iter(lambda: file.readline(MAX_ENVELOPE_BYTES + 2), b"")


def read_export(lines: Iterable[bytes]) -> Exported:
    """Verify an export.

    Raises:
        FormatError: `bad-export` where a line is no envelope, or lines are missing or out of order.
        VerificationError: `ledger-broken`, `ledger-unknown-key`, or what the delegation breaks.
    """
    envelopes = [_envelope(number, line) for number, line in enumerate(lines, start=1)]
    order = [LEDGER_HEADER, DELEGATION, LEDGER_RULE, LEDGER_ENTRY]
    kinds = [envelope.kind for envelope in envelopes]
    if (
        kinds[:2] != order[:2]
        or not set(kinds[2:]) <= set(order[1:])
        or kinds != sorted(kinds, key=order.index)
    ):
        raise FormatError(
            "bad-export",
            "not a ledger's header, its node's delegation, rules and entries, in this order",
            hint="The file comes from: accord-node budget export FILE",
        )
    head_envelope, header = envelopes[0], read_header(envelopes[0])
    (identity, party), keys = _delegated(one for one in envelopes if one.kind == DELEGATION)
    records = envelopes[1 + kinds.count(DELEGATION) :]
    check_signer("header", head_envelope, keys)
    rules = [envelope for envelope in records if envelope.kind == LEDGER_RULE]
    chain = list(follow(records[len(rules) :], LedgerEntry, keys))
    entries = tuple(entry for entry, _ in chain)
    _charged_once(entries)
    return Exported(
        ledger=header.ledger,
        party=party,
        identity=identity,
        node_keys=keys,
        orders=tuple(float(order) for order in header.orders),
        rules=Rules.of(rule for rule, _ in follow(rules, LedgerRule, keys)),
        entries=entries,
        head=chain[-1][1] if chain else NO_PREDECESSOR,
    )


def check_receipts(exported: Exported, envelopes: Iterable[Envelope]) -> int:
    """Compare with the receipts that the node's keys signed; returns how many there were.

    Raises:
        VerificationError: `export-behind` naming the first receipt whose entry the file lacks.
    """
    paid = [entry.spend for entry in exported.entries]
    count = 0
    for envelope in envelopes:
        if len(envelope.signers) != 1 or not envelope.signers <= set(exported.node_keys):
            continue
        envelope.verify(envelope.signers)
        count += 1
        entry = NodeReceipt.from_bytes(envelope.payload).ledger
        place = exported.entries[entry.sequence : entry.sequence + 1]
        # A gap was charged under its receipt: that very spend, or it is not paid for.
        owed = entry.spend.model_copy(update={"run": envelope.hash})
        if place != (entry,) and owed not in paid:
            raise VerificationError(
                "export-behind",
                f"receipt {envelope.hash[:16]} names entry {entry.sequence}, which the file lacks "
                f"or has otherwise; it has {len(exported.entries)} entries",
                hint="Ask for a new export; if that lacks it too, the ledger was rolled back.",
            )
    return count


def write_export(
    header: Envelope, delegations: Iterable[Envelope], records: Iterable[Envelope]
) -> Iterator[bytes]:
    """Yield an export's lines; `delegations` the newest last, `records` rules, then entries."""
    for envelope in (header, *delegations, *records):
        yield envelope.to_bytes() + b"\n"


def _envelope(number: int, line: bytes) -> Envelope:
    if len(line) > MAX_ENVELOPE_BYTES + 1 or not line.endswith(b"\n"):
        raise FormatError("bad-export", f"line {number} is too long, or has no end")
    try:
        return Envelope.from_bytes(line[:-1])
    except FormatError as error:
        raise FormatError("bad-export", f"line {number}: {error.message}") from error


def _delegated(
    envelopes: Iterable[Envelope],
) -> tuple[tuple[PublicKey, Id], tuple[PublicKey, ...]]:
    """Return whose delegations these are, by one identity key, and the keys they name."""
    whose: set[tuple[PublicKey, Id]] = set()
    seen: set[Hash] = set()
    keys = []
    for envelope in envelopes:
        delegation = _delegation(envelope)
        (identity,) = envelope.signers
        whose.add((identity, delegation.party))
        if envelope.hash in seen:
            raise broken("a delegation stands there twice")
        seen.add(envelope.hash)
        keys.append(delegation.node_key)
    if len(whose) != 1:
        raise broken("the delegations are not one institution's")
    return whose.pop(), tuple(keys)


def _delegation(envelope: Envelope) -> Delegation:
    if len(envelope.signatures) != 1:
        raise broken("the delegation has more than one signature")
    try:
        delegation = Delegation.from_bytes(envelope.payload)
        (identity,) = envelope.signers
        return verify_delegation(envelope, identity_key=identity, party=delegation.party)
    except AccordError as error:
        raise broken(f"delegation: {error.message}") from error


def _charged_once(entries: Iterable[LedgerEntry]) -> None:
    seen: set[tuple[str, int, int]] = set()
    for entry in entries:
        place = (entry.spend.run, entry.spend.round, entry.spend.attempt)
        if place in seen:
            raise broken(f"entry {entry.sequence} charges an attempt that was charged before")
        seen.add(place)
