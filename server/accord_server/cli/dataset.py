"""`accord dataset`: what institutions declare of their data, and released to you."""

from pathlib import Path
from typing import Annotated

import typer

from accord_common import duo
from accord_common.api.client import RegistryClient
from accord_common.api.dataset_schemas import CatalogueView, DatasetDetail
from accord_common.catalogue_text import profile_text, schema_text
from accord_common.cli import Format, FormatOption, emit, table, verbs
from accord_common.duo import words
from accord_common.errors import AccordError, ConflictError, NotFoundError, UsageError
from accord_common.home import Home
from accord_server.cli.options import DEFAULT_HOME, HomeOption

app = verbs("Search the catalogue of datasets.")


def labels(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete OWNER/NAME by asking the registry; nothing where it does not answer."""
    try:
        home = Path(ctx.params.get("home") or DEFAULT_HOME).expanduser()
        with Home.open(home).registry() as client:
            known = labelled(client, client.datasets())
    except (AccordError, OSError):
        return []
    return sorted(label for label in known.values() if label.startswith(incomplete))


@app.command("list", epilog="Example: accord dataset list --duo HMB --column creatinine")
def list_(
    code: Annotated[
        str | None, typer.Option("--duo", help="Only with this condition: DUO:0000006 or HMB.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Only this institution's, by name.")] = None,
    column: Annotated[str | None, typer.Option(help="Only with a column of this name.")] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List registered datasets, with what their owners declare of them."""
    with Home.open(home.expanduser()).registry() as client:
        party = None if owner is None else _owner(client, owner)
        found = client.datasets(duo=_code(code), party=party, column=column)
        named = labelled(client, found)
    rows = [
        [
            named[view.id],
            view.entry.title if view.entry else "not in the catalogue",
            view.entry.rows if view.entry else "",
            view.size,
            ", ".join(view.entry.duo) if view.entry else "",
            len(view.table.inputs),
        ]
        for view in found
    ]
    headers = ("dataset", "title", "rows", "public size", "conditions", "columns")
    text = table(*headers, rows=rows) if found else "No dataset is like that."
    emit(found, format_, text)


@app.command(epilog="Example: accord dataset show 'Hospital North/tumours'")
def show(
    dataset: Annotated[str, typer.Argument(help="OWNER/NAME, name, or id.", autocompletion=labels)],
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show a dataset's schema and conditions, and the profiles that were released to you."""
    with Home.open(home.expanduser()).registry() as client:
        known = client.datasets()
        named = labelled(client, known)
        found = client.dataset(_find(known, named, dataset).id)
    emit(found, format_, describe(found, named[found.dataset.id]))


def labelled(client: RegistryClient, views: list[CatalogueView]) -> dict[str, str]:
    """OWNER/NAME by id."""
    names = {partner.id: partner.name for partner in client.partners()}
    return {view.id: f"{names.get(view.owner, view.owner)}/{view.name}" for view in views}


def describe(found: DatasetDetail, label: str) -> str:
    """A dataset for people."""
    view, entry = found.dataset, found.dataset.entry
    lines = [label]
    if entry is None:
        lines += ["not in the catalogue: its owner has published no entry", ""]
    else:
        conditions = ", ".join(map(words, entry.duo)) or "none stated"
        lines += [f"{entry.title}, version {entry.version} of {entry.created}"]
        lines += [entry.description] if entry.description else []
        lines += [f"rows {entry.rows}", f"conditions of use: {conditions}", ""]
    lines += [f"public size {view.size}, one {view.unit} protected", f"schema {view.schema_hash}"]
    lines += ["", schema_text(view.table, entry.units if entry else {})]
    for agreement in found.agreements:
        allows = agreement.smallest_cell
        told = "no profile" if allows is None else f"profiles, smallest cell {allows}"
        lines += ["", f"in {agreement.title}, version {agreement.version} ({agreement.status}), "]
        lines[-1] += f"{agreement.hash}: {told}"
        for profile in found.profiles:
            if profile.agreement == agreement.hash:
                lines += [f"profile {profile.hash} of {profile.created}"]
                lines += [profile_text(profile.profile, view.table)]
    return "\n".join(lines)


def _code(text: str | None) -> str | None:
    if text is None:
        return None
    near = duo.near(text)
    if len(near) != 1:
        raise UsageError(
            "unknown-duo-code",
            f"{text!r} is no code of the Data Use Ontology",
            hint=f"Near: {', '.join(map(words, near)) or 'codes read DUO:0000006'}.",
        )
    return near[0]


def _owner(client: RegistryClient, name: str) -> str:
    found = [partner.id for partner in client.partners() if name in (partner.id, partner.name)]
    if not found:
        raise NotFoundError(
            "unknown-party", f"no partner {name!r}", hint="accord partner list shows them."
        )
    return found[0]


def _find(views: list[CatalogueView], named: dict[str, str], text: str) -> CatalogueView:
    found = [view for view in views if text in (view.id, view.name, named[view.id])]
    if not found:
        raise NotFoundError(
            "unknown-dataset", f"no dataset {text!r}", hint="accord dataset list shows them."
        )
    if len(found) > 1:
        raise ConflictError(
            "ambiguous-dataset",
            f"{len(found)} datasets are called {text!r}",
            hint=f"Name one: {', '.join(sorted(named[view.id] for view in found))}.",
        )
    return found[0]
