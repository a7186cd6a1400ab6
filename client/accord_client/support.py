"""What a node's IT may send to whoever helps them, part by part; see `accord_common.support`.

Guarantees: nothing of a row, a count of rows, a list of people, a name, a path, a key, a token or a
message is read into it. Ids, hashes and states are those that the registry or the aggregator has
seen; sizes are of files that grow with runs, never with rows or people. Only `checks` uses the
network, and it sends what `accord-node check` does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from accord_client import heads, outbox, rounds, state
from accord_client.contact import REGISTRY_SEEN
from accord_client.datasets import Datasets
from accord_client.health import examine
from accord_client.limits import Limits
from accord_client.lock import running_pid
from accord_client.logs import FILE
from accord_client.reconciling import behind
from accord_client.state import State
from accord_client.stores import LEDGER_FILE, Stores, open_stores
from accord_common.checks.check import Check
from accord_common.enrolment import Delegation
from accord_common.errors import DataError
from accord_common.home import Home
from accord_common.support import Part, about, files, host_of, known, last_events, part

_FILES = (
    heads.FILE_NAME, f"{heads.FILE_NAME}-wal",
    LEDGER_FILE, f"{LEDGER_FILE}-wal", state.FILE_NAME, f"{state.FILE_NAME}-wal", rounds.FILE_NAME,
    f"{rounds.FILE_NAME}-wal", outbox.FILE_NAME, str(FILE), "ca.pem", "delegation.json",
    "flower.pem", "identity.key", "node.pem", "profile.json", "token",
)  # fmt: skip


def collect(home: Home, log_file: Path | None = None) -> list[Part]:
    """Look at a node's folder, its disk, its machine and its registry.

    Args:
        home: the folder.
        log_file: where the daemon logs, if not there.
    """

    def stored(look: Callable[[Stores], object]) -> Callable[[], object]:
        def opened() -> object:
            with open_stores(home) as stores:
                return look(stores)

        return opened

    return [
        part("about.json", "versions, kind of machine, which variables are set", about),
        part(
            "node.json", "ids, the registry's host, limits, what waits to be posted", stored(_node)
        ),
        part("checks.json", "what accord-node check finds, by codes", lambda: _checks(home)),
        part("runs.json", "each run's id, decision, state, round and codes", lambda: _runs(home)),
        part("datasets.json", "ids, schemas' hashes, public sizes", lambda: _datasets(home)),
        part("ledger.json", "head and number of entries, no spend", stored(_ledger)),
        part(
            "disk.json",
            "sizes and modes of the node's own files, free space",
            lambda: files(home.path, _FILES),
        ),
        part(
            "log.jsonl",
            "the last log lines: times, events, codes",
            lambda: last_events(log_file or home.path / FILE),
        ),
    ]


def _node(stores: Stores) -> dict[str, Any]:
    profile = stores.home.profile
    delegation = Delegation.from_bytes(stores.home.delegation().payload)
    return {
        "party": profile.party,
        "registry": host_of(profile.registry_url),
        "registry_seen": stores.state.get(REGISTRY_SEEN),
        "runs_now": running_pid(stores.home.path) is not None,
        "queued": stores.state.queued(),
        "limits": Limits.model_validate(Limits.noted(stores.state) or {}).model_dump(mode="json"),
        "agreements": sorted(stores.agreements.signed()),
        "delegation": {"from": delegation.valid_from, "until": delegation.valid_until},
    }


def _checks(home: Home) -> list[dict[str, Any]]:
    return [_check(found) for found in examine(home)]


def _check(found: Check) -> dict[str, Any]:
    """Name and code alone: the words name datasets, paths and addresses."""
    told = {"name": known(found.name), "layer": known(found.layer), "ok": found.ok}
    return told | {"code": known(found.code)} if found.code else told


def _runs(home: Home) -> list[dict[str, Any]]:
    memory = State(home.path / state.FILE_NAME)
    try:
        return [
            {
                "id": run.id,
                "manifest": run.manifest,
                "decision": run.decision,
                "code": known(run.code) if run.code else None,
                "state": known(run.state),
                "round": run.round,
                "attempt": run.attempt,
                "refused_round": run.refused_round,
                "refused_code": known(run.refused_code) if run.refused_code else None,
            }
            for run in memory.runs()
        ]
    finally:
        memory.close()


def _datasets(home: Home) -> list[dict[str, Any]]:
    datasets = Datasets.of(home.path)
    found = []
    for dataset in datasets.all():
        problem = None
        try:
            dataset.check_unchanged()
        except DataError as error:
            problem = known(error.code)
        found.append(
            {
                "id": dataset.id,
                "schema": dataset.table.hash,
                "source": dataset.source.kind,
                "size": dataset.size,
                "unit": dataset.unit,
                "policy": dataset.policy,
                "problem": problem,
            }
        )
    return found


def _ledger(stores: Stores) -> dict[str, Any]:
    frozen = behind(stores)
    return {
        "entries": stores.ledger.length,
        "head": stores.ledger.head,
        "rules": len(stores.ledger.rulings()),
        "behind": None if frozen is None else frozen.code,
    }
