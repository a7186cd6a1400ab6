"""Who may call what: the whole of it, in one table.

Guarantees: the application does not start where a route has no row or a row has no route (`app`),
and what a row does not allow is denied. `tests/server/registry/test_decisions.py` tries each cell.

A cell says what the caller may reach: `all`; `own`, what is its organisation's, as each service
spells out (`Caller.sees`); `-`, nothing. The columns:

    anyone        no credential at all; then nothing else in the row is asked
    pending       a party that is not approved yet, or is suspended; its people too
    coord holder aggr audit    machines of parties by role: coordinator, data-holder, aggregator,
                  auditor, with the token of an enrolment
    half          a person whose second factor is still to be set up, or to be given
    oper          an owner of a coordinator, who looks after the registry's accounts
    owner         an owner of any other party
    coor stew audi    persons: coordinator, steward, auditor
    scope         what an API token of a person needs for it; `-`: no such token may

A coordinator runs; an owner has accounts and tokens of its organisation; a steward looks, at its
own institution's; an auditor reads everything and changes nothing, but what is its own: password,
sessions, tokens. Nobody's browser or token brings a signed record: those come from the machine that
holds the key. Model bytes go to whom the agreement names, an auditor or not.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from accord_common.api.access_schemas import Scope

Cell = Literal["all", "own", "-"]

ANYONE, PENDING, HALF = "anyone", "pending", "half"

_TABLE = """
                                        anyone pending coord holder aggr audit half oper owner coor stew audi scope
GET    /livez                           all    all     all   all    all  all   all  all  all   all  all  all  read
GET    /readyz                          all    all     all   all    all  all   all  all  all   all  all  all  read
GET    /v1/info                         all    all     all   all    all  all   all  all  all   all  all  all  read
GET    /v1/ca.pem                       all    all     all   all    all  all   all  all  all   all  all  all  read
GET    /v1/openapi.json                 all    all     all   all    all  all   all  all  all   all  all  all  read

POST   /v1/enrolments                   all    all     all   all    all  all   all  all  all   all  all  all  -
POST   /v1/revocations                  all    all     all   all    all  all   all  all  all   all  all  all  -
POST   /v1/invitations                  -      -       all   -      -    -     -    -    -     all  -    -    partners
GET    /v1/partners                     -      -       all   all    all  all   -    all  all   all  all  all  read
GET    /v1/partners/{party}             -      own     all   all    all  all   -    all  all   all  all  all  read
POST   /v1/partners/{party}/approve     -      -       all   -      -    -     -    -    -     all  -    -    partners
POST   /v1/partners/{party}/suspend     -      -       all   -      -    -     -    -    -     all  -    -    partners
POST   /v1/partners/{party}/readmit     -      -       all   -      -    -     -    -    -     all  -    -    partners
PUT    /v1/trust                        -      own     own   own    own  own   -    -    -     -    -    -    -
GET    /v1/trust                        -      -       all   -      -    all   -    all  -     all  -    all  read

POST   /v1/datasets                     -      -       -     own    -    -     -    -    -     -    -    -    -
GET    /v1/datasets                     -      -       all   all    all  all   -    all  all   all  all  all  read
GET    /v1/datasets/{dataset}           -      -       own   own    own  all   -    own  own   own  own  all  read
POST   /v1/agreements                   -      -       own   own    own  own   -    -    -     -    -    -    -
GET    /v1/agreements                   -      -       own   own    own  all   -    own  own   own  own  all  read
POST   /v1/agreements/{agreement_hash}/check -      -       own   own    -    all   -    own  own   own  own  all  read
GET    /v1/agreements/{agreement_hash}  -      -       own   own    own  all   -    own  own   own  own  all  read
POST   /v1/records                      -      own     own   own    own  own   -    -    -     -    -    -    -
GET    /v1/records                      -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/records/{record_hash}        -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/records/{record_hash}/proof  -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/log/checkpoint.jsonl         -      -       all   all    all  all   -    all  all   all  all  all  read
GET    /v1/log/checkpoint               -      -       all   all    all  all   -    all  all   all  all  all  read
GET    /v1/log/checkpoints              -      -       all   all    all  all   -    all  all   all  all  all  read
GET    /v1/log/inclusion                -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/log/proofs                   -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/log/consistency              -      -       all   all    all  all   -    all  all   all  all  all  read
POST   /v1/log/check                    -      -       all   all    all  all   -    all  all   all  all  all  read
GET    /v1/bundles                      -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/offers                       -      -       all   -      -    all   -    all  -     all  -    all  read
PUT    /v1/blobs/{name}                 -      -       own   -      own  -     -    -    -     -    -    -    -
GET    /v1/blobs/{name}                 -      -       own   own    own  own   -    own  own   own  own  own  read
GET    /v1/runs                         -      -       own   own    own  all   -    own  own   own  own  all  read
GET    /v1/runs/{run}                   -      -       own   own    own  all   -    own  own   own  own  all  read
GET    /v1/runs/{run}/rounds            -      -       own   own    own  all   -    own  own   own  own  all  read
POST   /v1/runs/{run}/stop              -      -       own   -      -    -     -    -    -     own  -    -    runs
POST   /v1/runs/{run}/lease             -      -       -     -      own  -     -    -    -     -    -    -    -
POST   /v1/runs/{run}/events            -      -       own   -      own  -     -    -    -     own  -    -    runs
GET    /v1/runs/{run}/events            -      -       own   own    own  all   -    own  own   own  own  all  read
POST   /v1/runs/{run}/scores            -      -       own   -      -    -     -    -    -     own  -    -    runs
GET    /v1/runs/{run}/scores            -      -       own   own    own  all   -    own  own   own  own  all  read
POST   /v1/runs/{run}/comments          -      -       -     -      -    -     -    own  own   own  own  -    -
GET    /v1/runs/{run}/comments          -      -       own   own    own  all   -    own  own   own  own  all  read
POST   /v1/agreements/{agreement_hash}/comments -      -       -     -      -    -     -    own  own   own  own  -    -
GET    /v1/agreements/{agreement_hash}/comments -      -       own   own    own  all   -    own  own   own  own  all  read
DELETE /v1/comments/{comment}           -      -       -     -      -    -     -    own  own   own  own  -    -
POST   /v1/announcements                -      -       all   -      -    -     -    -    -     all  -    -    partners
GET    /v1/announcements                -      -       all   own    own  all   -    all  own   all  own  all  read
DELETE /v1/announcements/{announcement} -      -       all   -      -    -     -    -    -     all  -    -    partners
GET    /v1/notices                      -      -       all   -      -    all   -    all  -     all  -    all  read
GET    /v1/inbox                        -      -       own   own    own  own   -    own  own   own  own  own  read
GET    /v1/budgets                      -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/budgets/datasets             -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/budgets/institutions         -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/budgets/agreements           -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/budgets/runs                 -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/budgets/rounds               -      -       all   own    own  all   -    all  own   all  own  all  read
GET    /v1/exceptions                   -      -       all   own    own  all   -    all  own   all  own  all  read

POST   /v1/people                       -      -       own   own    own  own   -    own  own   -    -    -    people
GET    /v1/people                       -      -       own   own    own  all   -    all  own   own  own  all  read
GET    /v1/people/{person}              -      -       own   own    own  all   -    all  own   own  own  all  read
PUT    /v1/people/{person}/role         -      -       own   own    own  own   -    own  own   -    -    -    people
POST   /v1/people/{person}/disable      -      -       own   own    own  own   -    all  own   -    -    -    people
POST   /v1/people/{person}/enable       -      -       own   own    own  own   -    all  own   -    -    -    people
POST   /v1/people/{person}/reset        -      -       own   own    own  own   -    own  own   -    -    -    people
POST   /v1/passwords                    all    all     all   all    all  all   all  all  all   all  all  all  -
GET    /v1/me                           -      own     own   own    own  own   own  own  own   own  own  own  read
PUT    /v1/me/password                  -      own     -     -      -    -     -    own  own   own  own  own  -
POST   /v1/me/second-factor             -      own     -     -      -    -     own  own  own   own  own  own  -
PUT    /v1/me/second-factor             -      own     -     -      -    -     own  own  own   own  own  own  -
POST   /v1/me/second-factor/end         -      own     -     -      -    -     -    own  own   own  own  own  -
POST   /v1/sessions                     all    all     all   all    all  all   all  all  all   all  all  all  -
GET    /v1/sessions                     -      own     -     -      -    -     -    own  own   own  own  own  -
DELETE /v1/sessions/{session}           -      own     -     -      -    -     own  own  own   own  own  own  -
POST   /v1/sessions/second-factor       -      own     -     -      -    -     own  own  own   own  own  own  -
POST   /v1/tokens                       -      -       -     -      -    -     -    own  own   own  own  own  -
GET    /v1/tokens                       -      -       own   own    own  all   -    all  own   own  own  all  people
DELETE /v1/tokens/{token}               -      -       own   own    own  own   -    own  own   own  own  own  people
GET    /v1/oidc                         all    all     all   all    all  all   all  all  all   all  all  all  -
POST   /v1/oidc/logins                  all    all     all   all    all  all   all  all  all   all  all  all  -
GET    /v1/oidc/callback                all    all     all   all    all  all   all  all  all   all  all  all  -

GET    /assets/{path:path}              all    all     all   all    all  all   all  all  all   all  all  all  -
GET    /sign-in                         all    all     all   all    all  all   all  all  all   all  all  all  -
GET    /welcome                         all    all     all   all    all  all   all  all  all   all  all  all  -
GET    /second-factor                   all    all     all   all    all  all   all  all  all   all  all  all  -
GET    /live                            -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /                                -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /runs                            -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /runs/{run}                      -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /agreements                      -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /agreements/{agreement_hash}     -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /agreements/{agreement_hash}/check -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /budgets                         -      -       -     -      -    -     -    all  own   all  own  all  -
GET    /budgets/{dataset}               -      -       -     -      -    -     -    all  own   all  own  all  -
GET    /runs/compare                    -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /people                          -      -       -     -      -    -     -    all  own   own  own  all  -
GET    /account                         -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /models                          -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /models/{run}                    -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /feed                            -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /audit                           -      -       -     -      -    -     -    all  own   all  own  all  -
GET    /records/{record_hash}           -      -       -     -      -    -     -    all  own   all  own  all  -
GET    /datasets                        -      -       -     -      -    -     -    all  all   all  all  all  -
GET    /datasets/{dataset}              -      -       -     -      -    -     -    own  own   own  own  all  -
GET    /partners                        -      -       -     -      -    -     -    all  all   all  all  all  -
GET    /partners/{party}                -      -       -     -      -    -     -    all  all   all  all  all  -
GET    /v1/access-events                -      -       own   own    own  all   -    all  own   -    -    all  audit
"""  # noqa: E501  # a table is read by its columns


class Row(NamedTuple):
    """What each column may reach of one route, and the scope that it takes."""

    cells: dict[str, Cell]
    scope: Scope | None

    @property
    def public(self) -> bool:
        """Whether nobody is asked who they are."""
        return self.cells[ANYONE] != "-"


def column_of(party_role: str, person_role: str | None) -> str:
    """The column of a machine of a party, or of a person of it."""
    if person_role is None:
        machines = {"coordinator": "coord", "data-holder": "holder", "aggregator": "aggr"}
        return machines.get(party_role, "audit")
    if person_role == "owner":
        return "oper" if party_role == "coordinator" else "owner"
    return {"coordinator": "coor", "steward": "stew"}.get(person_role, "audi")


def _read(table: str) -> dict[tuple[str, str], Row]:
    lines = [line.split() for line in table.splitlines() if line.strip()]
    *columns, last = lines[0]
    assert last == "scope", "the last column is the scope"
    rows: dict[tuple[str, str], Row] = {}
    for method, path, *cells, scope in lines[1:]:
        known = len(cells) == len(columns) and set(cells) <= set(get_args(Cell))
        if not known or scope not in {"-", *get_args(Scope)} or (method, path) in rows:
            raise RuntimeError(f"the row of {method} {path} does not read")
        rows[method, path] = Row(dict(zip(columns, cells, strict=True)), _scope(scope))  # type: ignore[arg-type]  # checked above
    return rows


def _scope(word: str) -> Scope | None:
    return next((scope for scope in get_args(Scope) if scope == word), None)


DECISIONS = _read(_TABLE)


def require_complete(routes: Iterable[tuple[str, str, bool]]) -> None:
    """Raise RuntimeError unless routes and rows are the same, and each route asks as its row says.

    Args:
        routes: method, path, and whether the route asks who calls.
    """
    there = set()
    for method, path, asks in routes:
        there.add((method, path))
        row = DECISIONS.get((method, path))
        if row is None:
            raise RuntimeError(f"{method} {path} has no row in access/decisions.py")
        if row.public == asks:
            must = "is for anyone, and asks" if asks else "is not for anyone, and does not ask"
            raise RuntimeError(f"{method} {path} {must} who calls")
    if missing := DECISIONS.keys() - there:
        raise RuntimeError(f"no route {sorted(missing)[0]} is there, as access/decisions.py says")
