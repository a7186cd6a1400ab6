"""What each page shows, for somebody signed in; addresses are in `app`."""

from starlette.responses import Response

from accord_client.steward.door import Session
from accord_client.steward.dossier import (
    proposed_dossier,
    run_dossier,
    signed_dossier,
    signed_dossiers,
)
from accord_client.steward.funds import account, funds
from accord_client.steward.home import asked, queue, read_home
from accord_client.steward.sent import KINDS, RECEIVERS, whole
from accord_client.steward.visit import Visit
from accord_common.errors import UsageError
from accord_common.fields import now

_CHARGES = 20
_ANSWERED = 50
_LINES = 50
_NEWEST = 3  # lines of the outbox on the first page; their list has the rest


def first(visit: Visit, session: Session) -> Response:
    """Home."""
    node = visit.node
    with node.open() as stores:
        name = stores.home.profile.name
        found = read_home(stores, node.board.found.value, node.proofs.found.value, now())
    newest, sums = node.sent.read()
    return visit.page(
        "home.html", "/", session=session, live=True,
        name=name, home=found, board=node.board.found, proofs=node.proofs.found,
        newest=newest[: -_NEWEST - 1 : -1], sums=sums, whole=whole(sums),
        kinds=KINDS, receivers=RECEIVERS,
    )  # fmt: skip


def decisions(visit: Visit, session: Session) -> Response:
    """What waits for the steward."""
    board = visit.node.board.found
    with visit.node.open() as stores:
        runs, later = asked(stores, board.value), queue(stores)
        known = stores.state.runs()
    answered = [run for run in known if run.decision != "ask"]
    return visit.page(
        "decisions.html", "/decisions", session=session, live=True,
        asked=runs, later=later, board=board, answered=answered[:_ANSWERED],
    )  # fmt: skip


def one_run(visit: Visit, session: Session) -> Response:
    """A run that waits, with its price."""
    with visit.node.open() as stores, stores.home.registry() as registry:
        found = run_dossier(stores, registry, visit.request.path_params["run"])
    return visit.page("run.html", "/decisions", session=session, run=found)


def agreements(visit: Visit, session: Session) -> Response:
    """What was signed here, and what waits to be."""
    with visit.node.open() as stores:
        found = signed_dossiers(stores.agreements, now())
    board = visit.node.board.found
    return visit.page(
        "agreements.html", "/agreements", session=session, live=True, found=found, board=board
    )


def one_agreement(visit: Visit, session: Session) -> Response:
    """An agreement: the own copy, else what the registry proposes."""
    hash_ = visit.request.path_params["hash"]
    with visit.node.open() as stores:
        found = signed_dossier(stores.agreements, hash_, now())
        if found is None:
            with stores.home.registry() as registry:
                found = proposed_dossier(stores, registry, hash_, now())
    unsent = visit.node.board.found.value.lacks(hash_)
    return visit.page("agreement.html", "/agreements", session=session, one=found, unsent=unsent)


def budgets(visit: Visit, session: Session) -> Response:
    """Every dataset's budget."""
    with visit.node.open() as stores:
        found = funds(stores, now())
    proofs = visit.node.proofs.found
    return visit.page(
        "budgets.html", "/budgets", session=session, live=True, funds=found, proofs=proofs
    )


def one_budget(visit: Visit, session: Session) -> Response:
    """One dataset's budget, with its charges and the steward's own cap."""
    with visit.node.open() as stores:
        dataset = stores.datasets.get(visit.request.path_params["dataset"])
        found = account(stores, dataset, _CHARGES, now())
    proofs = visit.node.proofs.found
    return visit.page(
        "budget.html", "/budgets", session=session, live=True, account=found, proofs=proofs
    )


def sent(visit: Visit, session: Session) -> Response:
    """What left the building."""
    kind, before = visit.request.query_params.get("kind"), _before(visit)
    lines, sums = visit.node.sent.read()
    chosen = [line for line in lines if kind in (None, "", line.kind) and line.sequence < before]
    shown = chosen[: -_LINES - 1 : -1]
    more = shown[-1].sequence if len(chosen) > len(shown) else None
    return visit.page(
        "sent.html", "/sent", session=session, live=True,
        lines_shown=shown, sums=sums, whole=whole(sums), more=more, kind=kind,
        kinds=KINDS, receivers=RECEIVERS, proofs=visit.node.proofs.found,
    )  # fmt: skip


def _before(visit: Visit) -> float:
    text = visit.request.query_params.get("before")
    if text is None:
        return float("inf")
    if not text.isdecimal():
        raise UsageError("bad-request", "before is not a line's number")
    return int(text)
