"""What whoever runs an aggregator may send to whoever helps them; see `accord_common.support`.

Guarantees: of a run's folder stand ids and sizes, which follow from its manifest; no model, no
masked vector, no secret of a round and no name of a party is in it.
"""

import os
from pathlib import Path
from typing import Any

from accord_common.enrolment import Delegation
from accord_common.errors import ConflictError
from accord_common.home import Home
from accord_common.support import Part, about, files, host_of, is_id, known, last_events, part
from accord_server.aggregator.locking import lock

_FILES = ("ca.pem", "delegation.json", "identity.key", "node.pem", "profile.json", "token")


def collect(home: Home, log_file: Path | None) -> list[Part]:
    """Look at an aggregator's folder and ask its registry."""
    parts = [
        part("about.json", "versions, kind of machine, which variables are set", about),
        part("aggregator.json", "its id, the registry's host", lambda: _aggregator(home)),
        part("runs.json", "ids, states and codes, as the registry has them", lambda: _runs(home)),
        part("kept.json", "which runs it keeps files of, and their sizes", lambda: _kept(home)),
        part(
            "disk.json",
            "sizes and modes of its own files, free space",
            lambda: files(home.path, _FILES),
        ),
    ]
    if log_file is not None:
        parts.append(
            part("log.jsonl", "the last log lines: times, events", lambda: last_events(log_file))
        )
    return parts


def _aggregator(home: Home) -> dict[str, Any]:
    delegation = Delegation.from_bytes(home.delegation().payload)
    return {
        "party": home.profile.party,
        "registry": host_of(home.profile.registry_url),
        "delegation": {"from": delegation.valid_from, "until": delegation.valid_until},
        "runs_now": _runs_now(home),
    }


def _runs_now(home: Home) -> bool:
    try:
        os.close(lock(home))
    except ConflictError:
        return True
    return False


def _runs(home: Home) -> list[dict[str, Any]]:
    with home.registry() as client:
        return [
            {
                "id": run.id,
                "state": known(run.state),
                "code": known(run.code) if run.code else None,
                "round": run.round,
                "rounds": run.rounds,
            }
            for run in client.runs()
        ]


def _kept(home: Home) -> dict[str, dict[str, int]]:
    """Bytes and files of each run's folder; whatever else lies there is not named."""
    folder = home.path / "runs"
    kept = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if is_id(path.name):
            sizes = [item.stat().st_size for item in path.rglob("*") if item.is_file()]
            kept[path.name] = {"files": len(sizes), "bytes": sum(sizes)}
    return kept
