"""The write-ahead privacy ledger: what this institution's populations have spent, for good.

Guarantees: a spend is signed, chained and on the disk before `charge` returns, so nothing leaves
the building uncharged whatever crashes; the caps are checked in the same transaction, over
everything that the population ever spent (runs, agreements and projects together), so two processes
cannot spend the same budget twice; one (run, round, attempt) is charged once; nothing is refunded.
Events are kept, never epsilon; the filter's orders are signed into the header when it is made.

Not covered: a file that its owner replaces or rolls back. The chain does not show a missing tail; a
receipt that names a later entry does (`reconciling`). The institution's administrator can bypass
the ledger: it protects the institution from others, and proves nothing to them.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Annotated, Literal

from pydantic import Field

from accord_client.ledger_rows import (
    append,
    envelope_of,
    is_charged,
    rows,
    same_entry,
    tally,
    tip,
)
from accord_client.ledger_store import Store, broken
from accord_common.envelope import Envelope, sign
from accord_common.errors import (
    AccordError,
    ConflictError,
    FormatError,
    PolicyError,
    UsageError,
    VerificationError,
)
from accord_common.fields import Dec, Hash, Id, Record, format_time, new_id, to_decimal
from accord_common.identity import SigningKey
from accord_common.privacy import words
from accord_common.privacy.accounting import ORDERS, Tally, decimal_up
from accord_common.privacy.events import LEDGER_ENTRY, NO_PREDECESSOR, LedgerEntry, Spend
from accord_common.privacy.filter import Cap, RdpFilter

LEDGER_HEADER = "ledger-header"  # stays in the file; never sent


class LedgerHeader(Record):
    """What is fixed when a ledger is made: its id and the filter's orders."""

    version: Literal[1]
    ledger: Id
    orders: Annotated[list[Dec], Field(min_length=1, max_length=1000)]


class Ledger:
    """One node's ledger, opened."""

    def __init__(self, path: Path, store: Store, key: SigningKey, header: Envelope) -> None:
        self._path = path
        self._store = store
        self._key = key
        self._header = header
        self.orders = tuple(float(order) for order in _read_header(path, header).orders)

    @classmethod
    def create(cls, path: Path, key: SigningKey) -> "Ledger":
        """Make an empty ledger and open it.

        Raises:
            ConflictError: `ledger-exists` or `ledger-unwritable`.
        """
        orders = [to_decimal(order) for order in ORDERS]
        header = LedgerHeader(version=1, ledger=new_id(), orders=orders)
        Store.create(path, sign(LEDGER_HEADER, header, key).to_bytes())
        return cls.open(path, key)

    @classmethod
    def open(cls, path: Path, key: SigningKey) -> "Ledger":
        """Open a ledger; `key` signs what is charged from now on.

        Raises:
            NotFoundError: `no-ledger`.
            VerificationError: `ledger-broken`.
            ConflictError: `ledger-unwritable`.
        """
        store = Store.open(path)
        try:
            with store.reading() as db:
                row = db.execute("SELECT envelope FROM header").fetchone()
            if row is None:
                raise broken(path, "the header is missing")
            try:
                header = Envelope.from_bytes(row[0])
            except FormatError as error:
                raise broken(path, f"header: {error.message}") from error
            return cls(path, store, key, header)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Close the file; what was charged stays."""
        self._store.close()

    @property
    def head(self) -> Hash:
        """The newest entry's hash; 64 zeros for an empty ledger."""
        with self._store.reading() as db:
            return tip(db)[1]

    def entries(
        self,
        *,
        population: Id | None = None,
        dataset: Id | None = None,
        run: Hash | None = None,
    ) -> list[tuple[LedgerEntry, Envelope]]:
        """Return the entries that match all that is given, oldest first."""
        wanted = {"population": population, "dataset": dataset, "run": run}
        given = {name: value for name, value in wanted.items() if value is not None}
        with self._store.reading() as db:
            found = list(rows(db, given))
        return [(self._decode(row[0], envelope_of(row)), envelope_of(row)) for row in found]

    def tally(self, population: Id) -> Tally:
        """Return all that a population has spent."""
        with self._store.reading() as db:
            return tally(db, population)

    def epsilon(self, population: Id, delta: str) -> float:
        """Return the filter's epsilon at `delta` of a population's private releases.

        It bounds nothing of releases without privacy: show `tally(...).non_private` beside it.
        """
        rule = RdpFilter(Cap(epsilon="0", delta=delta, non_private=True), self.orders)
        return rule.epsilon(self.tally(population))

    def check(self, spends: Sequence[Spend], caps: Sequence[Cap]) -> None:
        """Refuse spends that would not all fit, of one or several populations; writes nothing.

        Spends that are in the ledger already (same run, round and attempt) are not counted twice.

        Raises:
            PolicyError: `budget-exceeded`.
        """
        with self._store.reading() as db:
            for population in sorted({spend.population for spend in spends}):
                new = [
                    spend
                    for spend in spends
                    if spend.population == population and not is_charged(db, spend)
                ]
                self._refuse_excess(population, tally(db, population), Tally.of(new), caps)

    def charge(
        self, spend: Spend, caps: Sequence[Cap], clock: Callable[[], datetime]
    ) -> tuple[LedgerEntry, Envelope]:
        """Write `spend` ahead of its release; on return it is signed, chained and on the disk.

        Args:
            spend: what is about to be released.
            caps: what the agreement sets for the population's tables; all must hold.
            clock: this node's.

        Raises:
            PolicyError: `budget-exceeded`; nothing was written.
            ConflictError: `already-charged` for a second charge of one run, round and attempt;
                `ledger-unwritable` for a full or read-only disk; nothing was written.
            VerificationError: `ledger-broken`.
        """
        with self._store.writing() as db:
            if is_charged(db, spend):
                raise ConflictError(
                    "already-charged",
                    f"round {spend.round}, attempt {spend.attempt} of run {spend.run[:16]} is in "
                    "the ledger",
                    hint="Train again with fresh samples and noise as a new attempt.",
                )
            spent = tally(db, spend.population)
            self._refuse_excess(spend.population, spent, Tally.of([spend]), caps)
            return self._append(db, spend, clock)

    def holds(self, entry: LedgerEntry, receipt: Hash) -> bool:
        """Whether this very entry is in the chain, or its spend was charged anew for `receipt`."""
        with self._store.reading() as db:
            return same_entry(db, entry) or is_charged(db, _owed(entry, receipt))

    def recharge(self, entry: LedgerEntry, receipt: Hash, clock: Callable[[], datetime]) -> bool:
        """Charge what `receipt` shows was spent and this file lacks; False where it lacks nothing.

        It has been spent, so caps have no say. The spend's `run` is the receipt's hash: the same
        attempt may have been released twice, and is then paid for twice.
        """
        with self._store.writing() as db:
            spend = _owed(entry, receipt)
            if same_entry(db, entry) or is_charged(db, spend):
                return False
            self._append(db, spend, clock)
        return True

    @property
    def length(self) -> int:
        """How many entries there are."""
        with self._store.reading() as db:
            return tip(db)[0]

    def verify(self, keys: Collection[str]) -> Hash:
        """Walk the whole chain and return its head.

        Args:
            keys: public keys that may have signed: the present node key and those before it.

        Raises:
            VerificationError: `ledger-broken` naming the first entry that does not hold,
                `ledger-unknown-key` naming the first that none of `keys` signed.
        """
        self._check_signer("header", self._header, keys)
        with self._store.reading() as db:
            (state,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if state != "ok":
                raise broken(self._path, str(state))
            (stored,) = db.execute("SELECT envelope FROM header").fetchone()
            if stored != self._header.to_bytes():
                raise broken(self._path, "the header changed, and the filter's orders with it")
            previous = NO_PREDECESSOR
            for expected, row in enumerate(rows(db, {})):
                envelope = envelope_of(row)
                self._check_signer(f"entry {expected}", envelope, keys)
                entry = self._decode(expected, envelope)
                if (row[0], entry.sequence) != (expected, expected):
                    raise broken(
                        self._path,
                        f"entry {expected} is numbered {row[0]}, signed {entry.sequence}",
                    )
                if entry.previous != previous:
                    raise broken(self._path, f"entry {expected} does not follow {previous[:16]}")
                previous = envelope.hash
        return previous

    def _append(
        self, db: Connection, spend: Spend, clock: Callable[[], datetime]
    ) -> tuple[LedgerEntry, Envelope]:
        sequence, previous = tip(db)
        entry = LedgerEntry(
            sequence=sequence, previous=previous, spend=spend, recorded=format_time(clock())
        )
        envelope = sign(LEDGER_ENTRY, entry, self._key)
        append(db, sequence, envelope)
        return entry, envelope

    def _refuse_excess(self, population: Id, spent: Tally, new: Tally, caps: Sequence[Cap]) -> None:
        if not caps:
            raise UsageError("no-cap", "a spend needs at least one cap")
        for cap in caps:
            rule = RdpFilter(cap, self.orders)
            total = spent + new
            if new.empty or rule.fits(total):
                continue
            if total.non_private and not cap.non_private:
                raise PolicyError(
                    "budget-exceeded",
                    f"population {population}: {words.releases(total.non_private)} with this one; "
                    f"nothing fits the cap {cap.epsilon} beside that, since it speaks of all that "
                    "was ever released",
                    hint="Agree on new terms with `non_private: true`, if the parties accept that.",
                )
            raise PolicyError(
                "budget-exceeded",
                f"population {population} has spent epsilon {_figure(rule.epsilon(spent))} and "
                f"would reach {_figure(rule.epsilon(total))}; the cap is {cap.epsilon} at "
                f"delta {cap.delta} ({total.adjacency})",
                hint="Plan fewer rounds or more noise, or agree on a higher cap; what is spent "
                "is never refunded.",
            )

    def _check_signer(self, name: str, envelope: Envelope, keys: Collection[str]) -> None:
        if unknown := envelope.signers - frozenset(keys):
            raise VerificationError(
                "ledger-unknown-key",
                f"{self._path}: {name} is signed by {min(unknown)[:16]}, no key of this node",
                hint="Name the node's earlier keys too, if it rotated them.",
            )
        try:
            envelope.verify(envelope.signers)
        except AccordError as error:
            raise broken(self._path, f"{name}: {error.message}") from error

    def _decode(self, index: int, envelope: Envelope) -> LedgerEntry:
        try:
            return LedgerEntry.from_bytes(envelope.payload)
        except FormatError as error:
            raise broken(self._path, f"entry {index}: {error.message}") from error


def _owed(entry: LedgerEntry, receipt: Hash) -> Spend:
    return entry.spend.model_copy(update={"run": receipt})


def _read_header(path: Path, envelope: Envelope) -> LedgerHeader:
    try:
        envelope.verify(envelope.signers)
        header = LedgerHeader.from_bytes(envelope.payload)
    except AccordError as error:
        raise broken(path, f"header: {error.message}") from error
    orders = [float(order) for order in header.orders]
    if envelope.kind != LEDGER_HEADER or orders[0] <= 1 or orders != sorted(set(orders)):
        raise broken(path, "header: not the header of a ledger, or orders out of order")
    return header


def _figure(epsilon: float) -> str:
    return decimal_up(epsilon) if epsilon != float("inf") else "infinity"
