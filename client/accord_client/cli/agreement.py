"""`accord-node agreement`: read, sign, and see who has signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_client.cli import halt
from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import (
    Format,
    FormatOption,
    PassphraseOption,
    YesOption,
    confirm,
    emit,
    note,
    read_passphrase,
    table,
    verbs,
)

if TYPE_CHECKING:
    from accord_client.agreements import Agreements
    from accord_common.agreement import Agreement
    from accord_common.home import Home

app = verbs("Read and sign data-sharing agreements, and end or halt them.")
app.command(epilog=halt.WITHDRAW_EXAMPLE)(halt.withdraw)
app.command(epilog=halt.SUSPEND_EXAMPLE)(halt.suspend)
app.command(epilog=halt.RESUME_EXAMPLE)(halt.resume)

HashArgument = Annotated[str, typer.Argument(help="Hash, or the first digits of it.")]


@app.command("list", epilog="Example: accord-node agreement list")
def list_(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """List the agreements that name this institution, and whose signatures they lack."""
    from accord_client import halts
    from accord_client.agreements import Agreements

    opened = open_home(home)
    own = Agreements.of(opened)
    signed = own.signed()
    found: list[dict[str, Any]] = []
    with opened.registry() as registry:
        for view in registry.agreements():
            terms = view.agreement
            missing = [terms.party(party).name for party in view.missing]
            status = halts.state(own, view.hash) or view.status
            found.append(
                {
                    "hash": view.hash,
                    "title": terms.title,
                    "version": terms.version,
                    "status": status,
                    "signed_here": view.hash in signed,
                    "missing": missing,
                }
            )
    headers = ("hash", "title", "version", "status", "signed here", "missing")
    rows = [
        (
            item["hash"],
            item["title"],
            item["version"],
            item["status"],
            "yes" if item["signed_here"] else "no",
            ", ".join(item["missing"]),
        )
        for item in found
    ]
    emit(
        found,
        format_,
        table(*headers, rows=rows) if found else "No agreement names this institution yet.",
    )


@app.command(epilog="Example: accord-node agreement show 3f9a0c21")
def show(
    agreement: HashArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Show an agreement in plain words, with everything that the node will enforce.

    Without the registry, the copy that was signed here is shown.
    """
    from accord_client import halts
    from accord_client.agreements import Agreements
    from accord_common.summaries import statement

    opened = open_home(home)
    own = Agreements.of(opened)
    hash_, terms, before = _look_up(opened, own, agreement)
    state = halts.state(own, hash_)
    said = [f"{terms.party(who).name}: {why}" for who, why in halts.reasons(own, hash_)]
    head = f"{state.upper()} as far as this node knows. {' '.join(said)}\n\n" if state else ""
    emit(
        {
            "hash": hash_,
            "agreement": terms.to_json(),
            "changes": _changes(before, terms),
            "state": state or None,
        },
        format_,
        head + statement(terms, hash_, own.party, before),
    )


@app.command(epilog="Example: accord-node agreement sign 3f9a0c21... (all 64 digits)")
def sign(
    agreement: Annotated[str, typer.Argument(help="The whole hash, 64 digits.")],
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show an agreement, sign it with the institution's key, and keep the copy that was signed.

    From then on the node enforces this copy, whatever the registry says.
    """
    from accord_client.agreements import Agreements
    from accord_client.signing import propose, sign_proposed
    from accord_common.summaries import statement

    opened = open_home(home)
    own = Agreements.of(opened)
    with opened.registry() as registry:
        proposed = propose(opened, own, registry, agreement)
        terms = proposed.terms
        note(statement(terms, proposed.hash, own.party, proposed.before))
        confirm(f"Sign {terms.title!r} for {opened.profile.name}?", yes=yes)
        key = opened.identity(read_passphrase(passphrase_file))
        view = sign_proposed(opened, own, registry, proposed, key)
    missing = [terms.party(party).name for party in view.missing]
    emit(
        {"hash": view.hash, "title": terms.title, "status": view.status, "missing": missing},
        format_,
        f"Signed {terms.title!r}. "
        + (f"Still to sign: {', '.join(missing)}." if missing else "Every party has signed."),
    )


def _look_up(home: Home, own: Agreements, text: str) -> tuple[str, Agreement, Agreement | None]:
    """An agreement, its hash, and the version before; the own copies where nobody answers."""
    from accord_client.signing import before
    from accord_common.agreement import Agreement
    from accord_common.api.finding import find_agreement
    from accord_common.errors import AuthError, TransportError, UsageError

    try:
        with home.registry() as registry:
            view = find_agreement(registry, text)
            terms = own.read(view.envelope, view.hash)
            return view.hash, terms, before(own, registry, terms)
    except (TransportError, AuthError, UsageError) as error:
        note(f"The registry does not answer ({error.code}): this is the copy that was signed here.")
    hash_, terms = own.find(text)
    kept = own.signed().get(terms.previous or "")
    return hash_, terms, None if kept is None else Agreement.from_bytes(kept.payload)


def _changes(before: Agreement | None, terms: Agreement) -> list[dict[str, str]] | None:
    from dataclasses import asdict

    from accord_common.amendments import changes

    return None if before is None else [asdict(change) for change in changes(before, terms)]
