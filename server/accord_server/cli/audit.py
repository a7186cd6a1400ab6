"""`accord audit`: what does not agree; evidence from a registry, and checking it without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_common.cli import Format, FormatOption, emit, verbs
from accord_common.errors import FormatError, NotFoundError, UsageError, VerificationError
from accord_server.cli import audit_exceptions
from accord_server.cli.options import DEFAULT_HOME, HashArgument, HomeOption

if TYPE_CHECKING:
    from accord_common.api.client import RegistryClient
    from accord_common.envelope import Envelope

app = verbs("List what does not agree, take evidence from the registry, and check it offline.")
app.command(epilog=audit_exceptions.EXAMPLE)(audit_exceptions.exceptions)

_RUN_ID, _HASH = 36, 64  # characters
_MOST_KEPT = 100_000  # checkpoints in a file that somebody kept

OutOption = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Whole hash of an agreement, from a party that signed it and not from the registry; "
        "its earlier versions are trusted with it. May be repeated."
    ),
]
KeptOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        help="Checkpoints that somebody kept: from accord audit checkpoint, accord-node log "
        "export, or a node's evidence of a fork. May be repeated.",
    ),
]


@app.command(epilog="Example: accord audit checkpoint -o checkpoint.jsonl")
def checkpoint(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also add it to this file.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the log's signed size and root. Whoever keeps one finds a later rollback or fork."""
    from accord_common.log.checkpoint import verify_checkpoint

    with _registry(home) as client:
        envelope = client.tree.checkpoint()
    body = verify_checkpoint(envelope)
    if output is not None:
        with output.open("ab") as file:
            file.write(envelope.to_bytes() + b"\n")
    emit(
        body,
        format_,
        f"{body.size} records at {body.created}\nroot    {body.root}\nlog key {body.log}",
    )


@app.command(epilog="Example: accord audit bundle 0197a1b2-... -o run.accord")
def bundle(
    output: OutOption,
    subject: Annotated[
        str | None, typer.Argument(help="A run's id or an agreement's hash, or part of it.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole log.")] = False,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Kept checkpoints that verify shall compare it with. May be repeated."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write records, proofs and checkpoints into one file that is verified without a registry.

    Of a run, with all that it rests on; of an agreement, with its runs; or of the whole log.
    """
    from accord_common.log import collect
    from accord_common.log.checkpoint import verify_checkpoint

    kept = [verify_checkpoint(envelope) for file in checkpoint or [] for envelope in _kept(file)]
    if (subject is None) != everything:
        raise UsageError(
            "no-subject",
            "name a run or an agreement, or give --all, and not both",
            hint="accord run list and accord agreement list show them.",
        )
    with _registry(home) as client:
        if subject is None:
            kind, name, count = "all", None, collect.collect_all(client, output)
        else:
            kind, name = _subject(client, subject)
            taken = collect.collect_run if kind == "run" else collect.collect_agreement
            count = taken(client, name, output, kept)
    of = "the whole log" if name is None else f"{kind} {name}"
    emit(
        {"scope": kind, "subject": name, "records": count, "file": str(output)},
        format_,
        f"{count} records of {of} in {output}\n\n"
        f"Check it anywhere: accord audit verify {output} --trust AGREEMENT-HASH",
    )


@app.command(epilog="Example: accord audit proof 3f29c1... -o receipt.proof")
def proof(
    record: HashArgument,
    output: OutOption,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write one record, and the proof that it is in the log, for accord audit verify."""
    from accord_common.log.proof import prove

    if len(record) != _HASH:
        raise UsageError(
            "hash-incomplete",
            f"give all {_HASH} digits of the record's hash",
            hint="accord audit exceptions and the registry's page Audit name records.",
        )
    with _registry(home) as client:
        found = prove(client, record)
    output.write_bytes(found.to_bytes())
    kind = found.record.kind
    emit(
        {"sequence": found.sequence, "kind": kind, "file": str(output)},
        format_,
        f"record {found.sequence}, {kind} {record[:16]}, with its proof in {output}",
    )


@app.command(epilog="Example: accord audit verify run.accord --trust 5b1f0c...")
def verify(
    path: Annotated[
        Path,
        typer.Argument(
            help="A bundle, a proof, a node's evidence, or on its machine a registry's folder."
        ),
    ],
    trust: TrustOption = None,
    checkpoint: KeptOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Check evidence with this program alone: no registry is asked.

    Every signature, chain and place in the log; every checkpoint that a node signed it saw; each
    result's epsilon, computed again. Exit 5 names what does not hold; without --trust also where
    all holds together, for whoever made the file could have made all its keys.
    """
    trusted = [_whole(name) for name in trust or []]
    kept = [envelope for file in checkpoint or [] for envelope in _kept(file)]
    if path.is_dir():
        from accord_server.cli.audit_registry import verify_folder

        verify_folder(path, trusted, kept, format_)
    elif (beginning := _beginning(path)).startswith(b'{"payload"'):
        _verify_checkpoints([*_kept(path), *kept], format_)
    elif beginning.startswith(b"{"):
        _verify_proof(path, trusted, kept, format_)
    else:
        _verify_bundle(path, trusted, kept, format_)


def _verify_bundle(path: Path, trust: list[str], kept: list[Envelope], format_: Format) -> None:
    from accord_common.log.audit import audit
    from accord_server.cli.audit_text import as_json, as_text

    with path.open("rb") as file:
        verdict = audit(file, trust, kept)
    emit(as_json(verdict), format_, as_text(verdict))
    if verdict.failures:
        first = verdict.failures[0]
        more = f"; {len(verdict.failures)} in all" if len(verdict.failures) > 1 else ""
        raise VerificationError(first.code, f"{first.place}: {first.message}{more}")
    if not verdict.authenticated:
        raise not_authenticated(verdict.untrusted - set(trust) if trust else ())


def _verify_proof(path: Path, trust: list[str], kept: list[Envelope], format_: Format) -> None:
    from accord_common.log.checkpoint import verify_checkpoint
    from accord_common.log.kept import contradictions
    from accord_common.log.proof import MAX_PROOF_BYTES, RecordProof

    if path.stat().st_size > MAX_PROOF_BYTES:
        raise FormatError("too-large", f"{path} exceeds {MAX_PROOF_BYTES} bytes")
    found = RecordProof.from_bytes(path.read_bytes(), max_bytes=MAX_PROOF_BYTES)
    head, agreement = found.check()
    others = [verify_checkpoint(envelope, head.log) for envelope in kept]
    for error in contradictions([head, *others]):
        raise error
    if apart := [other for other in others if other.size != head.size]:
        raise VerificationError(
            "unproven-checkpoint",
            f"this proof leads to a tree of {head.size} records, and to none of {apart[0].size}",
            hint="Take the whole log, or the run with accord audit bundle --checkpoint FILE.",
        )
    known = found.agreement is not None and found.agreement.hash in trust
    parties = () if agreement is None else agreement.parties
    names = {party.identity_key: party.name for party in parties}
    signers = [
        f"{names[key]}, key {key[:16]}" if key in names else f"key {key[:16]}"
        for key in sorted(found.record.signers)
    ]
    said = _party_in(found.record)
    of = next((f" of {party.name}" for party in parties if party.id == said), "")
    answer = {
        "record": found.record.hash,
        "kind": found.record.kind,
        "sequence": found.sequence,
        "signers": sorted(found.record.signers),
        "size": head.size,
        "root": head.root,
        "log_key": head.log,
        "agreement": None if found.agreement is None else found.agreement.hash,
        "authenticated": known,
    }
    emit(
        answer,
        format_,
        f"record {found.sequence}, {found.record.kind}{of}, {found.record.hash}\n"
        f"signed by {'; '.join(signers)}\n"
        f"is in the log of key {head.log[:16]}, of {head.size} records at {head.created}\n"
        + ("authenticated" if known else "consistent, not authenticated"),
    )
    if not known:
        raise not_authenticated([answer["agreement"]] if trust and answer["agreement"] else ())


def _verify_checkpoints(kept: list[Envelope], format_: Format) -> None:
    """Say what checkpoints deny of each other; that they do not, proves nothing."""
    from accord_common.log.checkpoint import verify_checkpoint
    from accord_common.log.kept import contradictions

    found = [verify_checkpoint(envelope) for envelope in kept]
    denied = list(contradictions(found))
    lines = [
        f"{head.size} records at {head.created}, root {head.root[:16]}, log key {head.log[:16]}"
        for head in found
    ]
    answer = {
        "log_keys": sorted({head.log for head in found}),
        "checkpoints": [head.to_json() for head in found],
        "failures": [{"code": error.code, "message": error.message} for error in denied],
    }
    emit(answer, format_, "\n".join(lines))
    for error in denied:
        raise error
    raise VerificationError(
        "not-authenticated",
        "these checkpoints are signed, and none denies another; whether each grew from the one "
        "before, they cannot tell without proofs",
        hint="Compare them with a bundle: accord audit verify BUNDLE --checkpoint FILE",
    )


def _party_in(record: Envelope) -> str | None:
    """The party that a record says it is of."""
    from accord_common.canonical import parse
    from accord_common.fields import MAX_RECORD_BYTES

    value = parse(record.payload, max_bytes=MAX_RECORD_BYTES)
    found = value.get("party") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def not_authenticated(untrusted: Any) -> VerificationError:
    """What is said where all holds together, on nobody's word that the verifier gave."""
    if untrusted:
        return VerificationError(
            "not-authenticated",
            f"it rests on agreement {min(untrusted)}, which no --trust names or leads to",
            hint="Take the newest version's hash from a party that signed it.",
        )
    return VerificationError(
        "not-authenticated",
        "consistent, not authenticated: whoever made this could have made all its keys",
        hint="Give --trust with the hash of the agreement, from a party that signed it.",
    )


def _registry(home: Path) -> RegistryClient:
    from accord_common.home import Home

    return Home.open(home.expanduser()).registry()


def _subject(client: RegistryClient, text: str) -> tuple[str, str]:
    from accord_common.api.finding import find_agreement, find_run

    if len(text) == _HASH:
        return "agreement", text
    if len(text) == _RUN_ID:
        return "run", text
    try:
        return "run", find_run(client, text).id
    except NotFoundError:
        return "agreement", find_agreement(client, text).hash


def _whole(name: str) -> str:
    if len(name) != _HASH or set(name) - set("0123456789abcdef"):
        raise UsageError(
            "hash-incomplete",
            f"--trust {name} is no whole hash, {_HASH} lower-case hex digits",
            hint="Take the agreement's from a party that signed it: accord-node agreement list.",
        )
    return name


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _kept(path: Path) -> list[Envelope]:
    """The checkpoints of a file of envelopes, one a line."""
    from accord_common.envelope import MAX_ENVELOPE_BYTES, Envelope
    from accord_common.log.checkpoint import CHECKPOINT

    found = []
    with path.open("rb") as file:
        while line := file.readline(MAX_ENVELOPE_BYTES + 1):
            envelope = Envelope.from_bytes(line.rstrip(b"\n"))
            if envelope.kind == CHECKPOINT:  # beside them may stand who showed them
                found.append(envelope)
            if len(found) > _MOST_KEPT:
                raise FormatError("too-large", f"{path} has over {_MOST_KEPT} checkpoints")
    if not found:
        raise UsageError(
            "no-checkpoint",
            f"{path} holds no checkpoint",
            hint="accord audit checkpoint -o and accord-node log export write them.",
        )
    return found
