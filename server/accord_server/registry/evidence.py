"""What of the database is evidence, and what keeps the registry running: every column, declared.

EVIDENCE follows from the signed records alone: whoever changes, removes or adds it in the database
is found by `accord audit verify` (`evidence_check`), which names the record or the row. OPERATIONAL
is the registry's own word or memory: nobody signed it, nothing that a party decides rests on it,
and its loss or falsification shows in no proof. A column that is not here fails a test.

Times are operational: the registry's clock, unsigned; a checkpoint that covers a record bounds when
it came. Times in projections follow from `records.received`, so a change there alone is found too.
"""

from typing import Literal

EVIDENCE: Literal["evidence"] = "evidence"
OPERATIONAL: Literal["operational"] = "operational"

Standing = Literal["evidence", "operational"]


def _evidence(*columns: str, operational: tuple[str, ...] = ()) -> dict[str, Standing]:
    return dict.fromkeys(columns, EVIDENCE) | dict.fromkeys(operational, OPERATIONAL)


def _operational(*columns: str) -> dict[str, Standing]:
    return dict.fromkeys(columns, OPERATIONAL)


COLUMNS: dict[str, dict[str, Standing]] = {
    # the records, and the tree over them
    "records": _evidence(
        "sequence", "kind", "hash", "envelope", "leaf", "run", operational=("received",)
    ),
    "log_nodes": _evidence("level", "number", "hash"),
    # what they come to
    "partners": _evidence(
        "id", "name", "role", "identity_key", "jurisdiction", "contact", "delegation"
    ),
    "agreements": _evidence(
        *("hash", "id", "version", "valid_from", "valid_until"),
        *("superseded_by", "superseded_from", "withdrawal"),
    ),
    "agreement_parties": _evidence(
        "agreement", "party", "withdrawn", "suspended", "suspension_head"
    ),
    "agreement_halts": _evidence("hash", "agreement"),
    "offers": _evidence("hash", "sequence", "party", "manifest"),
    "runs": _evidence(
        *("id", "manifest", "agreement", "aggregator", "title", "state", "cause", "code"),
        *("round", "rounds", "initial_model", "base", "model", "result", "epsilon", "metrics"),
        *("head", "withdrawn"),
        operational=("timed_from", "created", "updated"),
    ),
    "run_sites": _evidence(
        *("run", "party", "dataset", "decision", "code", "reason", "head"),
        *("refused_round", "refused_code", "revoked"),
    ),
    "rounds": _evidence(
        *("run", "number", "round", "attempt", "outcome", "cohort", "lost", "refused"),
        "model_after",
        operational=("started", "ended"),
    ),
    # what runs may spend, have spent, and how records fail to agree
    "agreement_datasets": _evidence(
        *("agreement", "dataset", "title", "name", "owner", "population"),
        *("epsilon_cap", "delta", "adjacency", "non_private"),
    ),
    "run_budgets": _evidence(
        *("run", "dataset", "party", "population", "agreement", "adjacency"),
        *("noise_multiplier", "sampling_rate", "steps", "most", "attempts"),
        *("told", "told_epsilon", "recomputed"),
    ),
    "spends": _evidence(
        *("sequence", "receipt", "run", "party", "dataset", "round", "attempt", "number", "entry")
    ),
    "owed_receipts": _evidence(
        "run", "party", "round", "attempt", "receipt", operational=("since",)
    ),
    "findings": _evidence(
        *("sequence", "place", "code", "message", "party", "run", "dataset", "agreement"),
        "records",
        operational=("since",),
    ),
    # what institutions declare of their datasets, and released
    "dataset_entries": _evidence("hash", "dataset", "party", "version", "newest"),
    "dataset_words": _evidence("dataset", "kind", "word"),
    "dataset_profiles": _evidence("hash", "dataset", "party", "agreement", "entry", "newest"),
    # the registry's own: a checkpoint counts where others hold it
    "checkpoints": _operational("size", "envelope", "created"),
    "releases": _operational("revision", "release", "applied"),
    "alembic_version": _operational("version_num"),
    # who may call: approvals and secrets' hashes; what a party signs is decided by its own keys
    "invitations": _operational(
        *("code", "role", "name", "inviter", "created", "expires", "party", "used")
    ),
    "members": _operational("party", "approver", "approved"),
    "tokens": _operational("hash", "party", "created", "last_seen", "software"),
    "suspensions": _operational("party", "reason", "coordinator", "created"),
    "trusts": _operational("party", "ca", "told"),
    # persons: what they may do at the registry; no record is theirs
    "people": _operational(
        *("id", "party", "login", "name", "role", "disabled", "password", "password_changed"),
        *("totp", "totp_on", "totp_step", "created"),
    ),
    "person_codes": _operational("code", "person", "expires"),
    "recovery_codes": _operational("code", "person"),
    "sessions": _operational(
        *("hash", "id", "person", "ready", "address", "agent", "created", "seen")
    ),
    "person_tokens": _operational(
        *("hash", "id", "person", "name", "scopes", "created", "expires", "last_used")
    ),
    "oidc_identities": _operational("issuer", "subject", "person"),
    "oidc_states": _operational(
        *("state", "browser", "nonce", "verifier", "person", "code", "expires")
    ),
    "attempts": _operational("key", "failures", "last", "until"),
    "access_events": _operational(
        *("sequence", "kind", "party", "person", "actor", "address", "detail", "created")
    ),
    # drafts, until all have signed; blobs are named by their hash in records
    "datasets": _operational(
        *("id", "name", "owner", "population", "schema_hash", "table", "size", "unit")
    ),
    "proposals": _operational("hash", "envelope", "created"),
    "proposal_parties": _operational("proposal", "party", "signed"),
    "blobs": _operational("hash", "size", "party", "created"),
    # how runs are driven, and lines for people
    "leases": _operational(
        *("run", "holder", "fence", "expires", "renewed", "waiting", "waiting_since")
    ),
    "closures": _operational("run", "state", "code", "cause", "created"),
    "standings": _operational("run", "code"),
    "pulse": _operational("id", "since", "last"),
    "stops": _operational("run", "party", "reason", "created"),
    "scores": _operational("run", "round", "model", "holdout", "rows", "metrics", "created"),
    # what people say, and notices of it
    "announcements": _operational("id", "person", "party", "title", "body", "created"),
    "comments": _operational("id", "subject", "person", "party", "body", "created"),
    "notices": _operational(
        *("id", "place", "kind", "subject", "attempts", "error", "created", "due")
    ),
    "noticed": _operational("id", "sequence"),
    "events": _operational("sequence", "run", "level", "message", "party", "created"),
}


def of_evidence(table: str) -> list[str]:
    """The columns of a table that are evidence."""
    return [name for name, standing in COLUMNS[table].items() if standing == EVIDENCE]
