"""The write-ahead privacy ledger: what this institution's populations have spent, for good.

Guarantees: a spend is signed, chained and on the disk before `charge` returns, so nothing leaves
the building uncharged whatever crashes; the caps are checked in the same transaction, over
everything that the population ever spent (runs, agreements and projects together), so two processes
cannot spend the same budget twice; one (run, round, attempt) is charged once; nothing is refunded.
Events are kept, never epsilon; the filter's orders are signed into the header when it is made. The
steward's own caps, and which populations overlap, stand beside the entries, signed and chained too:
a charge counts for all populations that overlap, against the caps of all.

Not covered: a file that its owner replaces or rolls back. The chain does not show a missing tail; a
receipt that names a later entry does (`reconciling`). The institution's administrator can bypass
the ledger: it protects the institution from others, and proves nothing to them.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection

from accord_client.ledger_rows import (
    KINDS,
    append,
    charged,
    count,
    edge,
    envelope_of,
    first_since,
    is_charged,
    rows,
    rules,
    same_entry,
    spent,
    tally,
    tip,
)
from accord_client.ledger_store import Store, broken
from accord_client.ledger_walk import walk
from accord_common.envelope import Envelope, sign
from accord_common.errors import (
    ConflictError,
    FormatError,
    PolicyError,
    UsageError,
    VerificationError,
)
from accord_common.fields import Hash, Id, format_time, new_id, to_decimal
from accord_common.identity import SigningKey
from accord_common.privacy import words
from accord_common.privacy.accounting import ORDERS, Tally
from accord_common.privacy.events import LEDGER_ENTRY, LedgerEntry, Spend
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.ledger_chain import LEDGER_HEADER, LedgerHeader, read_header
from accord_common.privacy.rules import CapRule, LedgerRule, OverlapRule, Rules


class Ledger:
    """One node's ledger, opened."""

    def __init__(self, path: Path, store: Store, key: SigningKey, header: Envelope) -> None:
        self._path = path
        self._store = store
        self._key = key
        self.header = header
        try:
            orders = read_header(header).orders
        except VerificationError as error:
            raise broken(path, error.message) from error
        self.orders = tuple(float(order) for order in orders)

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

    def count(self, *, population: Id | None = None, run: Hash | None = None) -> int:
        """Return how many entries match all that is given."""
        wanted = {"population": population, "run": run}
        with self._store.reading() as db:
            return count(db, {name: value for name, value in wanted.items() if value is not None})

    def epsilon(self, population: Id, delta: str) -> float:
        """Return the filter's epsilon at `delta` of a population's private releases.

        It covers all populations that overlap this one, and bounds nothing of releases without
        privacy: show their `non_private` beside it.
        """
        rule = RdpFilter(Cap(epsilon="0", delta=delta, non_private=True), self.orders)
        with self._store.reading() as db:
            return rule.epsilon(spent(db, rules(db).group(population)))

    def tally(self, population: Id) -> Tally:
        """Return all that was charged to one population, whatever overlaps it."""
        with self._store.reading() as db:
            return spent(db, [population])

    def populations(self) -> list[Id]:
        """Return every population that was ever charged, by id."""
        with self._store.reading() as db:
            return charged(db)

    def newest(self, group: Sequence[Id], most: int) -> list[LedgerEntry]:
        """Return the last charges to a group of populations, oldest first."""
        return self._edge(group, most, last=True)

    def first(self, group: Sequence[Id]) -> LedgerEntry | None:
        """Return the first charge to a group, or None."""
        return next(iter(self._edge(group, 1, last=False)), None)

    def tally_before(self, group: Iterable[Id], moment: datetime) -> Tally:
        """Return what a group had been charged before a moment, as entries tell the time."""
        with self._store.reading() as db:
            until = first_since(db, moment)
        return self.tally_until(group, until)

    def tally_until(self, group: Iterable[Id], sequence: int) -> Tally:
        """Return what a group had been charged before the entry of this number."""
        with self._store.reading() as db:
            return sum((tally(db, one, sequence) for one in group), start=Tally.of([]))

    def group(self, population: Id) -> list[Id]:
        """Return a population and all that overlap it, by the steward's word."""
        return self.rules.group(population)

    @property
    def rules(self) -> Rules:
        """The steward's rules in force."""
        with self._store.reading() as db:
            return rules(db)

    def rulings(self) -> list[tuple[LedgerRule, Envelope]]:
        """Return every rule that was ever made, oldest first."""
        with self._store.reading() as db:
            found = [envelope_of(row, "rules") for row in rows(db, {}, "rules")]
        return [(LedgerRule.from_bytes(envelope.payload), envelope) for envelope in found]

    def rule(self, rule: CapRule | OverlapRule, clock: Callable[[], datetime]) -> LedgerRule:
        """Make a rule, in force for every later check and charge, of all processes.

        Raises:
            ConflictError: `ledger-unwritable`; nothing was written.
        """
        with self._store.writing() as db:
            sequence, previous = tip(db, "rules")
            record = LedgerRule(
                sequence=sequence,
                previous=previous,
                entries=tip(db)[0],
                rule=rule,
                recorded=format_time(clock()),
            )
            append(db, sequence, sign(KINDS["rules"], record, self._key), "rules")
        return record

    def check(self, spends: Sequence[Spend], caps: Sequence[Cap]) -> None:
        """Refuse spends that would not all fit, of one or several populations; writes nothing.

        Spends that are in the ledger already (same run, round and attempt) are not counted twice.

        Raises:
            PolicyError: `budget-exceeded`.
        """
        with self._store.reading() as db:
            fresh = [spend for spend in spends if not is_charged(db, spend)]
            for population in sorted({spend.population for spend in spends}):
                self._refuse_excess(db, population, fresh, caps)

    def charge(
        self, spend: Spend, caps: Sequence[Cap], clock: Callable[[], datetime]
    ) -> tuple[LedgerEntry, Envelope]:
        """Write `spend` ahead of its release; on return it is signed, chained and on the disk.

        Args:
            spend: what is about to be released.
            caps: what the agreement sets for the population's tables; all must hold, and the
                steward's own besides.
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
            self._refuse_excess(db, spend.population, [spend], caps)
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
        try:
            with self._store.reading() as db:
                return walk(db, self.header, keys)
        except VerificationError as error:
            hint = error.hint or broken(self._path, "").hint
            raise VerificationError(
                error.code, f"{self._path}: {error.message}", hint=hint
            ) from error

    def _edge(self, group: Sequence[Id], most: int, *, last: bool) -> list[LedgerEntry]:
        with self._store.reading() as db:
            found = edge(db, group, most, last=last)
        return [self._decode(row[0], envelope_of(row)) for row in found]

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

    def _refuse_excess(
        self, db: Connection, population: Id, new: Sequence[Spend], caps: Sequence[Cap]
    ) -> None:
        if not caps:
            raise UsageError("no-cap", "a spend needs at least one cap")
        standing = rules(db)
        group = standing.group(population)
        before = spent(db, group)
        added = Tally.of(spend for spend in new if spend.population in group)
        if added.empty:
            return
        total = before + added
        own = standing.caps_of(group)
        for cap in (*caps, *own):
            limit = RdpFilter(cap, self.orders)
            if limit.fits(total):
                continue
            people = f"population {population}"
            if len(group) > 1:
                people += f" and {len(group) - 1} that overlap it"
            bound = f"{cap.epsilon} at delta {cap.delta} ({limit.priced(total).adjacency})"
            if cap in own:
                bound += ", set by this institution's steward"
            if total.non_private and not cap.non_private:
                raise PolicyError(
                    "budget-exceeded",
                    f"{people}: {words.releases(total.non_private)} with this one; nothing fits "
                    f"the cap {bound} beside that, since it speaks of all that was ever released",
                    hint="Agree on new terms with `non_private: true`, if the parties accept that; "
                    "a steward's own cap stands until the steward removes it.",
                )
            raise PolicyError(
                "budget-exceeded",
                f"{people} has spent epsilon {words.figure(limit.epsilon(before))} and would reach "
                f"{words.figure(limit.epsilon(total))}; the cap is {bound}",
                hint="Plan fewer rounds or more noise, or agree on a higher cap; what is spent "
                "is never refunded.",
            )

    def _decode(self, index: int, envelope: Envelope) -> LedgerEntry:
        try:
            return LedgerEntry.from_bytes(envelope.payload)
        except FormatError as error:
            raise broken(self._path, f"entry {index}: {error.message}") from error


def _owed(entry: LedgerEntry, receipt: Hash) -> Spend:
    return entry.spend.model_copy(update={"run": receipt})
