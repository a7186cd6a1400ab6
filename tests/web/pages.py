"""Every page, and where the working day has an example of it.

The application says which routes are pages; one without a row here fails a test. A route may have
several rows: what it shows depends on who looks, and at what.
"""

from dataclasses import dataclass
from typing import Literal

from accord_client.steward.app import PAGES as NODE_PAGES
from accord_client.steward.visit import ENTER
from accord_common.api.access_schemas import PersonRole
from accord_server.registry.app import all_routes
from tests.web.place import Place

_NO_PAGES = {"/assets/{path:path}", "/live"}  # files, and the stream that pages listen to


@dataclass(frozen=True)
class Example:
    """One page to look at.

    `name` is that of its picture, `path` the route's; `asks` is what follows it. Parameters in
    braces are filled from `Place.names`, by `of` where the name there is another. `at` is whose
    page it is: the registry's, or a node's own, which knows one person alone.
    """

    name: str
    path: str
    role: PersonRole | None = "coordinator"  # None: nobody is signed in
    of: str = ""
    asks: str = ""
    status: int = 200
    at: Literal["registry", "node"] = "registry"

    @property
    def seat(self) -> str:
        """Who looks; see `Sitting`."""
        return self.role or "stranger" if self.at == "registry" else "node"

    def address(self, place: Place) -> str:
        """Path and query at this registry."""
        names = dict(place.names)
        names |= {"hash": names["agreement_hash"]}  # what a node's routes call it
        if self.of:
            parameter = self.path.partition("{")[2].partition("}")[0]
            names[parameter] = place.names[self.of]
        return self.path.format(**names) + self.asks.format(**names)


EXAMPLES = (
    Example("sign-in", "/sign-in", None),
    Example("welcome", "/welcome", None),
    Example("second-factor", "/second-factor", "owner"),
    Example("home-steward", "/", "steward"),
    Example("home-coordinator", "/", "coordinator"),
    Example("home-auditor", "/", "auditor"),
    Example("runs", "/runs"),
    Example("run-completed", "/runs/{run}", "auditor"),
    Example("run-live", "/runs/{run}", "coordinator", of="live"),
    Example("run-waiting", "/runs/{run}", "steward", of="waiting"),
    Example("run-refused", "/runs/{run}", "coordinator", of="refused"),
    Example("no-such-run", "/runs/{run}", "steward", of="nowhere", status=404),
    Example("runs-compared", "/runs/compare", asks="?run={run}&run={doubtful}&run={live}"),
    Example("models", "/models"),
    Example("model", "/models/{run}"),
    Example("agreements", "/agreements"),
    Example("agreement", "/agreements/{agreement_hash}", "auditor"),
    Example("agreement-draft", "/agreements/{agreement_hash}", "steward", of="draft"),
    Example(
        "agreement-check",
        "/agreements/{agreement_hash}/check",
        asks="?task=tabular-binary&architecture=mlp&noise=0.5&rate=0.9",
    ),
    Example("budgets", "/budgets", "auditor"),
    Example("budget", "/budgets/{dataset}", "steward"),
    Example("datasets", "/datasets", "steward"),
    Example("dataset", "/datasets/{dataset}", "steward"),
    Example("partners", "/partners"),
    Example("partner", "/partners/{party}"),
    Example("audit", "/audit", "auditor"),
    Example("record", "/records/{record_hash}", "auditor"),
    Example("activity", "/feed"),
    Example("people", "/people", "owner"),
    Example("people-access", "/people", "auditor"),
    Example("account", "/account", "steward"),
    Example("node-home", "/", at="node"),
    Example("node-enter", "/enter", at="node"),
    Example("node-decisions", "/decisions", at="node"),
    Example("node-run", "/decisions/{run}", at="node", of="waiting"),
    Example("node-no-such-run", "/decisions/{run}", at="node", of="nowhere", status=404),
    Example("node-budgets", "/budgets", at="node"),
    Example("node-budget", "/budgets/{dataset}", at="node"),
    Example("node-sent", "/sent", at="node"),
    Example("node-agreements", "/agreements", at="node"),
    Example("node-agreement", "/agreements/{hash}", at="node"),
    Example("node-agreement-to-sign", "/agreements/{hash}", at="node", of="draft"),
)


def page_routes() -> set[tuple[str, str]]:
    """Whose and which paths the applications have that a person opens."""
    registry = {
        route.path
        for route in all_routes()
        if not route.include_in_schema and route.path not in _NO_PAGES
    }
    return {("registry", path) for path in registry} | {
        ("node", path) for path in (*NODE_PAGES, ENTER)
    }
