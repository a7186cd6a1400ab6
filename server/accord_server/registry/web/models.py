"""The pages of models: what runs have left, where each comes from, and its card.

Guarantees: lineage and card are verified from the records when they are first shown, by the code of
`accord model`; a card is shown as text, tables and headings, whatever its records say; weights are
offered to those alone whom the blob's route lets have them.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from markdown_it import MarkdownIt
from markupsafe import Markup
from sqlalchemy import func, select
from starlette.responses import Response

from accord_common.api.tracing import trace
from accord_common.errors import AccordError, FormatError, NotFoundError, VerificationError
from accord_common.fields import Id
from accord_common.lineage import Lineage
from accord_server.coordinator.card import model_card
from accord_server.registry import inside
from accord_server.registry.blobs.repository import require_reader
from accord_server.registry.runs import repository as runs
from accord_server.registry.tables import BlobRow, RecordRow
from accord_server.registry.web.visit import Signed, Visit

router = APIRouter(include_in_schema=False)

_PER_PAGE = 50
_MOST_RECORDS = 10_000  # of a run: some seconds of verifying
_KEPT = 64  # cards; each some 10 KiB
_Key = tuple[str, int, str | None]  # result, records of the run, whose things the reader sees
_cards: OrderedDict[_Key, "Card"] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Card:
    """A model's verified lineage, and its card as HTML."""

    lineage: Lineage
    html: Markup


def _reader() -> MarkdownIt:
    """Text, tables, lists, code and headings; nothing that a browser would follow or run."""
    return (
        MarkdownIt("commonmark", {"html": False})
        .enable("table")
        .disable(["html_block", "html_inline", "link", "image", "autolink"])
    )


def as_html(card: str) -> Markup:
    """A card, without its front matter and title, with its headings below a page's."""
    text = card.split("---\n", 2)[-1] if card.startswith("---\n") else card
    reader = _reader()
    tokens = reader.parse(text)
    if tokens and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return Markup(reader.renderer.render(tokens, reader.options, {}))  # escaped by it


@router.get("/models")
async def models(visit: Signed, after: Annotated[Id | None, Query()] = None) -> Response:
    """Models of completed runs, newest first."""
    async with visit.registry.database.read() as session:
        found = await runs.page(
            session,
            visit.who.sees,
            "completed",
            after,
            _PER_PAGE + 1,
            visit.look(),
            newest_first=True,
        )
    shown = [run for run in found[:_PER_PAGE] if run.model is not None]
    return visit.page(
        "models.html",
        "/models",
        live=True,
        runs=shown,
        more=found[_PER_PAGE - 1].id if len(found) > _PER_PAGE else None,
        paged=after is not None,
    )


@router.get("/models/{run}")
async def model(visit: Signed, run: Id) -> Response:
    """One model: its lineage, card, and how to get it."""
    async with visit.registry.database.read() as session:
        row = await runs.require(session, run, visit.who.sees)
        view = await runs.view(session, row, visit.look())
        if row.result is None or row.model is None:
            raise NotFoundError(
                "no-model",
                f"run {run} is {view.state} and has no signed result with a model",
                hint="A run's page tells how far it is.",
            )
        held = select(func.count()).where(RecordRow.run == run)
        records = (await session.execute(held)).scalar_one()
        blob = await session.get(BlobRow, row.model)
        try:
            await require_reader(session, row.model, visit.who.party)
            entitled = True
        except NotFoundError:
            entitled = False
    card, broken, kept = None, None, None
    if records <= _MOST_RECORDS:
        try:
            card = await _card(visit, run, (row.result, records, visit.who.sees))
        except (FormatError, VerificationError) as error:
            broken = error
        except AccordError as error:  # an earlier run that is not the reader's, a busy database
            kept = error
    return visit.page(
        "model.html",
        "/models",
        run=view,
        model=row.model,
        size=None if blob is None else blob.size,
        entitled=entitled and blob is not None,
        records=records,
        most_records=_MOST_RECORDS,
        card=card,
        broken=broken,
        kept=kept,
    )


async def _card(visit: Visit, run: str, key: _Key) -> Card:
    """Verified once for each result and each new evaluation, with each reader's own right."""
    if key not in _cards:
        with inside.client(visit.request, visit.registry) as client:
            found = await asyncio.to_thread(trace, client, run)
        _cards[key] = Card(found.lineage, as_html(model_card(found)))
        while len(_cards) > _KEPT:
            _cards.popitem(last=False)
    return _cards[key]
