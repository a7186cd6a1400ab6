"""`accord-node dataset publish`, `profile` and `release`: what others may learn of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, YesOption, confirm, emit, note
from accord_common.errors import UsageError

if TYPE_CHECKING:
    from accord_client.agreements import Agreements
    from accord_client.datasets import LocalDataset
    from accord_common.agreement import Agreement
    from accord_common.api.client import RegistryClient
    from accord_common.catalogue import CatalogueEntry
    from accord_common.home import Home

PUBLISH_EXAMPLE = (
    "Example: accord-node dataset publish tumours --title 'Breast tumours, 2019 to 2024' "
    "--duo DUO:0000007 --unit radius=mm"
)
PROFILE_EXAMPLE = "Example: accord-node dataset profile tumours"
RELEASE_EXAMPLE = "Example: accord-node dataset release tumours --agreement 3f9a0c21"


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a dataset that is registered here; nothing where none can be read."""
    from accord_client.datasets import Datasets
    from accord_common.errors import AccordError

    try:
        home = Path(ctx.params.get("home") or DEFAULT_HOME).expanduser()
        return [one.name for one in Datasets.of(home).all() if one.name.startswith(incomplete)]
    except (AccordError, OSError):
        return []


DatasetArgument = Annotated[
    str, typer.Argument(help="The dataset's name or id.", autocompletion=names)
]


def publish(
    name: DatasetArgument,
    title: Annotated[str | None, typer.Option(help="What it is, in a line.")] = None,
    description: Annotated[
        str | None, typer.Option(help="How it came about, for whom; every member can read it.")
    ] = None,
    duo: Annotated[
        list[str] | None,
        typer.Option(help="A condition of use, DUO:0000006 or HMB; may be repeated."),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=UNIT, in which a number is measured; may be repeated."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Sign what the catalogue says of a table, and post it: columns, units, conditions of use.

    Of the rows it tells in which band their number lies, and nothing else. What is left out stays
    as the version before has it. From now on this node takes part in no run whose agreement does
    not keep the conditions.
    """
    from accord_client.catalogue import Catalogue, Declared
    from accord_client.datasets import Datasets
    from accord_common.fields import now

    opened = open_home(home)
    dataset = Datasets.of(opened.path).find(name)
    own = Catalogue(opened)
    said = Declared(title, description, _codes(duo), _units(unit))
    with opened.registry() as registry:
        _post(opened, registry)
        own.catch_up(dataset, registry)
        entry = own.draft(dataset, said, now())
        note(_entry_text(entry))
        confirm("Sign this, for everybody at the registry to read?", yes=yes)
        envelope = own.publish(entry)
        told = _posted(opened, registry, envelope.hash)
    emit(
        {"hash": envelope.hash, "posted": told, "entry": entry.to_json()},
        format_,
        f"Version {entry.version} of the entry of {dataset.name!r} is signed, "
        + ("and in the catalogue." if told else "and the registry does not have it yet."),
    )


def profile(
    name: DatasetArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Make a quality profile of a table and keep it here: nothing leaves.

    Shares of cells that are missing or wrong, of each category and class, and of repeats; coarse,
    and withheld where fewer than 10 rows stand behind one.
    """
    from accord_client.catalogue import Catalogue
    from accord_client.datasets import Datasets
    from accord_common.catalogue_text import profile_text

    opened = open_home(home)
    dataset = Datasets.of(opened.path).find(name)
    note(f"Reading {dataset.source.place} ...")
    made = Catalogue(opened).profile(dataset)
    emit(made, format_, profile_text(made, dataset.table))


def release(
    name: DatasetArgument,
    agreement: Annotated[
        str | None,
        typer.Option(help="Hash, or the first digits of it; may be left out where one allows it."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Sign a new quality profile, for the parties of an agreement that allows it, and post it.

    It is no differential privacy: whoever knows all other rows may learn of one, and what was
    released stays in the registry's log. Read it before you say yes.
    """
    from accord_client.agreements import Agreements
    from accord_client.catalogue import Catalogue
    from accord_client.datasets import Datasets
    from accord_common.catalogue_text import profile_text
    from accord_common.fields import now

    opened = open_home(home)
    dataset = Datasets.of(opened.path).find(name)
    own = Catalogue(opened)
    hash_, terms = _allowing(Agreements.of(opened), dataset, agreement)
    with opened.registry() as registry:
        _post(opened, registry)
        own.catch_up(dataset, registry)
        _post(opened, registry)
        before = own.newest_released(dataset, hash_, registry)
        made = own.release(dataset, hash_, terms, before, now())
        note(profile_text(made.profile, dataset.table))
        others = [party.name for party in terms.parties if party.id != made.party]
        confirm(f"Sign this, for {', '.join(others)} and auditors to read?", yes=yes)
        envelope = own.send(made, terms)
        told = _posted(opened, registry, envelope.hash)
    emit(
        {"hash": envelope.hash, "agreement": hash_, "posted": told, "profile": made.profile},
        format_,
        f"The profile of {dataset.name!r} is signed under {terms.title!r}"
        + ("." if told else ", and the registry does not have it yet."),
    )


def shown(home: Path, dataset: str) -> str | None:
    """The newest own entry in a line; None where there is none."""
    entry = _newest(home, dataset)
    return None if entry is None else f"version {entry.version} of {entry.created}: {entry.title}"


def note_outdated(home: Path, dataset: LocalDataset) -> None:
    """Say where the catalogue has another band of rows than were just counted."""
    from accord_common.profiles import band_of

    entry = _newest(home, dataset.id)
    if entry is not None and entry.rows != band_of(dataset.mark.rows):
        note(
            f"The catalogue says that {dataset.name!r} has {entry.rows} rows. To say otherwise: "
            f"accord-node dataset publish {dataset.name}"
        )


def _newest(home: Path, dataset: str) -> CatalogueEntry | None:
    from accord_client.catalogue import Catalogue
    from accord_common.catalogue import CatalogueEntry

    found = Catalogue(open_home(home)).newest(dataset)
    return None if found is None else CatalogueEntry.from_bytes(found.payload)


def _entry_text(entry: CatalogueEntry) -> str:
    from accord_common.catalogue_text import schema_text
    from accord_common.duo import words

    return "\n".join(
        [
            f"{entry.title} ({entry.name}), version {entry.version} of its entry",
            *([entry.description] if entry.description else []),
            f"rows: {entry.rows}; public size {entry.size}; one {entry.unit} protected",
            f"conditions of use: {', '.join(map(words, entry.duo)) or 'none stated'}",
            f"schema {entry.table.hash}",
            schema_text(entry.table, entry.units),
        ]
    )


def _codes(given: list[str] | None) -> list[str] | None:
    """Codes, or what data stewards call them; `unknown-duo-code`."""
    from accord_common.duo import known, near

    found = []
    for text in given or ():
        try:
            exact = near(text) if not text.startswith("DUO:") else [text]
            found.append(known(exact[0] if len(exact) == 1 else text))
        except ValueError as error:
            raise UsageError("unknown-duo-code", str(error)) from error
    return None if given is None else found


def _units(given: list[str] | None) -> dict[str, str] | None:
    found = {}
    for text in given or ():
        column, _, unit = text.partition("=")
        if not (column and unit):
            raise UsageError(
                "bad-arguments", f"--unit {text!r} names no unit", hint="--unit radius=mm"
            )
        found[column] = unit
    return None if given is None else found


def _allowing(own: Agreements, dataset: LocalDataset, text: str | None) -> tuple[str, Agreement]:
    """The agreement that was named, complete and in force; else the only one that allows it."""
    from accord_client.halts import state
    from accord_common.agreement import Agreement
    from accord_common.catalogue import profile_terms
    from accord_common.errors import AccordError, PolicyError
    from accord_common.fields import now

    if text is not None:
        hash_, _ = own.find(text)
        terms = Agreement.from_bytes(own.get(hash_).payload)
        ended = state(own, hash_) or ("superseded" if own.successor(hash_, now()) else "")
        if ended:
            raise PolicyError(f"agreement-{ended}", f"agreement {terms.title!r} is {ended}")
        return hash_, terms
    found = []
    for hash_ in own.signed():
        try:
            _, terms = _allowing(own, dataset, hash_)
            profile_terms(terms, dataset.id, own.party)
            found.append((hash_, terms))
        except AccordError:
            continue
    if len(found) != 1:
        raise PolicyError(
            "profile-not-agreed",
            f"{len(found)} agreements in force here let a profile of {dataset.name!r} out",
            hint="Name one with --agreement; or amend one with `profile` at the dataset."
            if found
            else "Amend one with `profile: {smallest_cell: 10}` at the dataset, if every party "
            "accepts that.",
        )
    return found[0]


def _post(home: Home, registry: RegistryClient) -> None:
    """Post what waits; the daemon goes on where the registry cannot be reached."""
    from accord_client.agreements import Agreements
    from accord_client.halts import post_waiting
    from accord_client.outbox import FILE_NAME, Outbox

    outbox = Outbox(home.path / FILE_NAME, home.node_key())
    post_waiting(Agreements.of(home), outbox, registry)


def _posted(home: Home, registry: RegistryClient, record: str) -> bool:
    """Post what waits, and ask whether the registry has taken a record."""
    from accord_common.errors import AccordError

    try:
        _post(home, registry)
        registry.record(record)
    except AccordError as error:
        note(f"error [{error.code}]: {error.message}")
        return False
    return True
