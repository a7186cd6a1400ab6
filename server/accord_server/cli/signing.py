"""Show an agreement, sign it as the party of a folder, and tell who has signed."""

from pathlib import Path

from accord_common.agreement import AGREEMENT, Agreement
from accord_common.api.finding import agreement_to_sign, version_before
from accord_common.api.schemas import AgreementView
from accord_common.cli import confirm, note, read_passphrase
from accord_common.envelope import record_hash, sign
from accord_common.errors import PolicyError
from accord_common.home import Home
from accord_common.identity import SigningKey
from accord_common.summaries import statement


def key_to_sign(
    agreement: Agreement,
    home: Home,
    question: str,
    passphrase_file: Path | None,
    before: Agreement | None,
    *,
    yes: bool,
) -> SigningKey:
    """Let the person read the terms, and what changed since `before`; ask; unseal the key.

    Raises:
        PolicyError: `own-key-exchanged` where the agreement gives this party another role or key.
            A signature under such terms would be worth nothing.
        UsageError: `not-confirmed`, or what `read_passphrase` raises.
    """
    profile = home.profile
    party = agreement.party(profile.party)
    if (party.role, party.identity_key) != (profile.role, profile.identity_key):
        raise PolicyError(
            "own-key-exchanged",
            f"the agreement names {profile.name!r} as {party.role} with key "
            f"{party.identity_key[:16]}, this folder is a {profile.role} with "
            f"{profile.identity_key[:16]}",
            hint="Do not sign; ask the coordinator how it came about.",
        )
    if not yes:
        digest = record_hash(AGREEMENT, agreement.to_bytes())
        note(statement(agreement, digest, profile.party, before))
    confirm(question, yes=yes)
    return home.identity(read_passphrase(passphrase_file))


def sign_agreement(
    home: Home, agreement: str, passphrase_file: Path | None, *, yes: bool
) -> AgreementView:
    """Sign an agreement of the registry's as the party of a folder."""
    with home.registry() as client:
        terms = agreement_to_sign(client, agreement).agreement
        question = f"Sign this as {home.profile.name!r}?"
        before = version_before(client, terms)
        key = key_to_sign(terms, home, question, passphrase_file, before, yes=yes)
        return client.sign_agreement(sign(AGREEMENT, terms, key))


def brief(view: AgreementView) -> dict[str, object]:
    """What programs are told of an agreement."""
    name = {party.id: party.name for party in view.agreement.parties}
    return {
        "hash": view.hash,
        "title": view.agreement.title,
        "version": view.agreement.version,
        "status": view.status,
        "signed": [name[party] for party in view.signed],
        "missing": [name[party] for party in view.missing],
        "valid_until": view.agreement.valid_until,
        "halts": [
            {"kind": item.kind, "party": name[item.party], "reason": item.reason}
            for item in view.halts
        ],
    }


def signatures(view: AgreementView) -> str:
    """Tell people who has signed, and what those who have not must run."""
    name = {party.id: party.name for party in view.agreement.parties}
    lines = [
        f"{view.agreement.title}, version {view.agreement.version}: {view.status}",
        f"hash    {view.hash}",
        f"signed  {', '.join(name[party] for party in view.signed) or 'nobody'}",
    ]
    for item in view.halts:
        did = "withdrew" if item.kind == "withdrawal" else "suspends it"
        lines.append(f"halted  {name[item.party]} {did}, {item.created}: {item.reason}")
    if view.missing:
        lines += [
            f"missing {', '.join(name[party] for party in view.missing)}",
            "",
            f"Data holders: accord-node agreement sign {view.hash}",
            f"Aggregator:   accord aggregator sign {view.hash}",
        ]
    return "\n".join(lines)
