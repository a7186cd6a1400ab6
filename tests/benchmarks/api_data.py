"""A registry's database with 10^6 rounds and 10^5 ledger entries, in bulk.

Parties, agreement and one open run are made by the registry itself, with every signature. The rest
is rows of the shapes that it writes: finished runs with their sites and budgets, rounds, receipts
as records (envelopes of the size that real ones have, with signatures that nobody made) and spends.
"""

import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert

from accord_common.canonical import canonical_bytes
from accord_common.envelope import Envelope
from accord_common.fields import new_id, now
from accord_common.log.merkle import Frontier, leaf_hash
from accord_server.registry.budgets.tables import FindingRow, RunBudgetRow, SpendRow
from accord_server.registry.db import Database
from accord_server.registry.log.repository import frontier, size_of
from accord_server.registry.log.tables import LogNodeRow
from accord_server.registry.tables import Base, RecordRow, RoundRow, RunRow, SiteRow
from tests.world import World

RUNS, ROUNDS = 1000, 1000
SPENDS = 100_000
_CHUNK = 5000  # rows in one statement
_FIRST_ENTRY = 1_000_000  # in ledgers, whose first entries are the open run's


@dataclass(frozen=True)
class Stored:
    """What there is to ask for."""

    runs: list[str]
    last_record: int
    datasets: dict[str, str]  # by party


async def fill(database: Database, world: World, envelope: bytes, count: int = RUNS) -> Stored:
    """Write everything.

    Args:
        database: a registry's, with the world's agreement.
        world: whose parties the runs name.
        envelope: a real node receipt's, whose size the others have.
        count: how many runs share the ledger entries.
    """
    begun = now() - timedelta(days=400)
    runs = [new_id() for _ in range(count)]
    parties = sorted(actor.id for actor in world.hospitals)
    datasets = {actor.id: actor.dataset for actor in world.hospitals}
    populations = {actor.id: actor.population for actor in world.hospitals}
    async with database.read() as session:
        edge = await frontier(session, await size_of(session))
    last = edge.size
    each = SPENDS // count // len(parties)
    await _write(database, RunRow, (_run(run, world, begun) for run in runs))
    await _write(
        database,
        SiteRow,
        (
            {
                "run": run,
                "party": party,
                "dataset": datasets[party],
                "decision": "accept",
                "code": "",
                "reason": "",
                "head": secrets.token_hex(32),
                "revoked": False,
            }
            for run in runs
            for party in parties
        ),
    )
    await _write(
        database,
        RunBudgetRow,
        (
            {
                "run": run,
                "dataset": datasets[party],
                "party": party,
                "population": populations[party],
                "agreement": world.agreement_hash,
                "adjacency": "add-remove",
                "noise_multiplier": "20",
                "sampling_rate": "0.01",
                "steps": 5,
                "most": ROUNDS,
                "attempts": each,
                "told": each,
                "told_epsilon": "0.1",
                "recomputed": "0.1",
            }
            for run in runs
            for party in parties
        ),
    )
    await _write(database, RoundRow, _rounds(runs, parties, begun))
    receipts = _Receipts(last, envelope, begun)
    await _write(
        database,
        RecordRow,
        (receipts.make(run) for run in runs for _ in range(each * len(parties))),
    )
    await _write(
        database,
        SpendRow,
        (
            {
                "sequence": last + 1 + index,
                "receipt": receipts.hashes[index],
                "run": runs[index // (each * len(parties))],
                "party": parties[index % len(parties)],
                "dataset": datasets[parties[index % len(parties)]],
                "round": index // len(parties) % each,
                "attempt": 0,
                "number": index // len(parties) % each + 1,
                "entry": _FIRST_ENTRY + index // len(parties),
            }
            for index in range(len(receipts.hashes))
        ),
    )
    await _write(database, LogNodeRow, receipts.subtrees(edge))
    await _write(database, FindingRow, _findings(last, receipts.hashes, parties, datasets, begun))
    return Stored(runs, last + len(receipts.hashes), datasets)


def _findings(
    last: int, receipts: list[str], parties: list[str], datasets: dict[str, str], begun: datetime
) -> Iterator[dict[str, Any]]:
    """Each tenth receipt shows something."""
    for index in range(0, len(receipts), 10):
        party = parties[index % len(parties)]
        yield {
            "sequence": last + 1 + index,
            "place": 0,
            "code": "ledger-repeats",
            "message": "a ledger entry stands for two attempts: a ledger was reset",
            "party": party,
            "run": None,
            "dataset": datasets[party],
            "agreement": None,
            "records": [receipts[index], receipts[index - 1]],
            "since": begun,
        }


async def lengthen(database: Database, world: World, run: str, attempts: int) -> None:
    """Give a run that has so many attempts the rows of ROUNDS."""
    parties = sorted(actor.id for actor in world.hospitals)
    rows = _rounds([run], parties, now() - timedelta(days=1))
    await _write(database, RoundRow, (row for row in rows if row["number"] > attempts))


def _run(run: str, world: World, begun: datetime) -> dict[str, Any]:
    model = secrets.token_hex(32)
    return {
        "id": run,
        "manifest": secrets.token_hex(32),
        "agreement": world.agreement_hash,
        "aggregator": world.aggregator.id,
        "title": "One of a thousand",
        "state": "completed",
        "cause": "",
        "code": "",
        "round": ROUNDS,
        "rounds": ROUNDS,
        "initial_model": secrets.token_hex(32),
        "model": model,
        "result": secrets.token_hex(32),
        "epsilon": [
            {
                "party": actor.id,
                "dataset": actor.dataset,
                "attempts": ROUNDS,
                "epsilon": "0.1",
                "delta": "0.00001",
            }
            for actor in sorted(world.hospitals, key=lambda actor: actor.id)
        ],
        "metrics": {"accuracy": "0.95", "auc": "0.98"},
        "head": secrets.token_hex(32),
        "timed_from": begun,
        "created": begun,
        "updated": begun,
    }


def _rounds(runs: Sequence[str], parties: list[str], begun: datetime) -> Iterator[dict[str, Any]]:
    for run in runs:
        for number in range(1, ROUNDS + 1):
            moment = begun + timedelta(seconds=number)
            yield {
                "run": run,
                "number": number,
                "round": number - 1,
                "attempt": 0,
                "outcome": "completed",
                "cohort": parties,
                "lost": [],
                "refused": {},
                "model_after": secrets.token_hex(32),
                "started": moment,
                "ended": moment + timedelta(seconds=1),
            }


class _Receipts:
    """Node receipts as records: envelopes that differ in their predecessor and signature."""

    def __init__(self, last: int, envelope: bytes, begun: datetime) -> None:
        self._last, self._begun = last, begun
        self._shape = json.loads(envelope)
        self._body = json.loads(b64decode(self._shape["payload"]))
        self.hashes: list[str] = []
        self._leaves: list[str] = []

    def make(self, run: str) -> dict[str, Any]:
        self._shape["signatures"][0]["sig"] = b64encode(secrets.token_bytes(64)).decode()
        self._body["previous"] = secrets.token_hex(32)
        self._shape["payload"] = b64encode(canonical_bytes(self._body)).decode()
        data = json.dumps(self._shape, separators=(",", ":")).encode()
        self.hashes.append(Envelope.from_bytes(data).hash)
        self._leaves.append(leaf_hash(data).hex())
        return {
            "sequence": self._last + len(self.hashes),
            "kind": "node-receipt",
            "hash": self.hashes[-1],
            "envelope": data,
            "leaf": self._leaves[-1],
            "run": run,
            "received": self._begun,
        }

    def subtrees(self, edge: Frontier) -> Iterator[dict[str, Any]]:
        """What the records complete in the log's tree."""
        for leaf in self._leaves:
            for (level, number), made in edge.add(bytes.fromhex(leaf)):
                yield {"level": level, "number": number, "hash": made.hex()}


async def _write(database: Database, table: type[Base], rows: Iterator[dict[str, Any]]) -> None:
    chunk: list[dict[str, Any]] = []
    async with database.write() as session:
        for row in rows:
            chunk.append(row)
            if len(chunk) == _CHUNK:
                await session.execute(insert(table), chunk)
                chunk = []
        if chunk:
            await session.execute(insert(table), chunk)
