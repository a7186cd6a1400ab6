"""What generated requests need to get anywhere: callers of each role, and ids that are there.

Nothing here names a route: ids are taken from every list that answers, under the list's name, and
given to every path and query that asks for one of that name. A new domain whose lists are under
`/v1/NAME` is covered by itself; what its calls need to succeed stands in `api_seeds.py`.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, get_args

import httpx

from accord_common.api.access_schemas import Scope
from accord_server.registry.access.rates import Rates
from accord_server.registry.access.tables import PersonRow, PersonTokenRow, SessionRow
from accord_server.registry.tables import Base, SuspensionRow, TokenRow
from tests.server.registry.persons import Browser, join
from tests.server.registry.stack import Stack
from tests.server.registry.tables import execute, on, rows
from tests.world import make_actor

SCOPES = list(get_args(Scope))
_LOST: tuple[type[Base], ...] = (TokenRow, SuspensionRow, SessionRow, PersonTokenRow, PersonRow)
_KEYS = ("id", "hash", "sequence")
_MOST_IDS = 50  # of one name


@dataclass
class Links:
    """Ids that answers have shown, by the name of the list they are in."""

    known: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def learn(self, path: str, told: Any) -> None:
        """Remember what an answer names."""
        name = path.removeprefix("/v1/").partition("/")[0]
        items = told if isinstance(told, list) else [told]
        for item in items:
            if not isinstance(item, dict):
                continue
            for key in _KEYS:
                if isinstance(item.get(key), str):
                    self._add(name, item[key])
            for key, value in item.items():  # a person in an invitation, a dataset of a run
                if isinstance(value, str) and re.fullmatch(r"[0-9a-f-]{36}|[0-9a-f]{64}", value):
                    self._add(f"{key}s", value)
                if isinstance(value, dict) and isinstance(value.get("id"), str):
                    self._add(f"{key}s", value["id"])

    def of(self, template: str, parameter: str) -> list[str]:
        """What there is for a parameter of a path, or of a query."""
        before = template.partition(f"/{{{parameter}}}")[0].rpartition("/")[2]
        return self.known.get(before) or self.known.get(f"{parameter}s") or []

    def _add(self, name: str, value: str) -> None:
        if value not in self.known[name] and len(self.known[name]) < _MOST_IDS:
            self.known[name].append(value)


@dataclass
class Crowd:
    """A caller for each column of the table of decisions, whatever is done to it."""

    stack: Stack
    headers: dict[str, dict[str, str]]
    kept: dict[str, list[tuple[Any, ...]]]

    def restore(self) -> None:
        """Give back the tokens, sessions and accounts that calls have ended."""
        url = self.stack.settings.database

        async def work(database: Any) -> None:
            async with database.write() as session:
                for table in _LOST:
                    await session.execute(table.__table__.delete())  # type: ignore[attr-defined]  # a Table
                for table in reversed(_LOST):
                    columns = [column.name for column in table.__table__.columns]
                    found = [dict(zip(columns, row, strict=True)) for row in self._rows(table)]
                    if found:
                        await session.execute(table.__table__.insert(), found)  # type: ignore[attr-defined]  # a Table

        for name in ("person_codes", "recovery_codes", "oidc_states", "oidc_identities"):
            execute(url, f"DELETE FROM {name}")
        on(url, work)

    def _rows(self, table: type[Base]) -> list[tuple[Any, ...]]:
        return self.kept[str(table.__tablename__)]


def crowd(stack: Stack) -> Crowd:
    """Enrol and invite somebody for each column; limits are off."""
    registry = stack.app.state.registry
    for name in ("callers", "strangers"):
        object.__setattr__(registry, name, Rates(0))
    world = stack.world
    inspectors = make_actor("inspectors", "auditor")
    newcomer = make_actor("newcomer", "data-holder")
    coordinator = stack.client(world.coordinator)
    stack.join(inspectors, coordinator.invite("auditor", inspectors.name).code)
    invited = coordinator.invite("data-holder", newcomer.name).code
    stack.join(newcomer, invited, approve=False)
    machines = {
        "pending": newcomer,
        "coord": world.coordinator,
        "holder": world.hospitals[0],
        "aggr": world.aggregator,
        "audit": inspectors,
    }
    headers = {column: _bearer(stack.tokens[actor.id]) for column, actor in machines.items()}
    browsers = {
        "oper": join(stack, world.coordinator, "owner", "oona"),
        "coor": join(stack, world.coordinator, "coordinator", "carl"),
        "owner": join(stack, world.hospitals[0], "owner", "olga"),
        "stew": join(stack, world.hospitals[0], "steward", "stella"),
        "audi": join(stack, inspectors, "auditor", "anna"),
    }
    for column, browser in browsers.items():
        made = browser.call("POST", "/v1/tokens", {"name": "all", "scopes": SCOPES, "days": 9})
        headers[column] = _bearer(made.json()["secret"])
        headers[f"{column}, in a browser"] = _cookie(browser)
    return Crowd(stack, headers, rows(stack.settings.database, _LOST))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _cookie(browser: Browser) -> dict[str, str]:
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    url = browser.stack.settings.url
    return {"Cookie": cookies, "X-CSRF-Token": browser.csrf, "Origin": url}


def json_of(answer: httpx.Response) -> Any:
    """An answer's JSON, or None."""
    try:
        return answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
