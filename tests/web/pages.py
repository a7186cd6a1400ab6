"""Every page, and where the working day has an example of it.

The application says which routes are pages; one without a row here fails a test. A route may have
several rows: what it shows depends on who looks, and at what.
"""

from dataclasses import dataclass

from accord_common.api.access_schemas import PersonRole
from accord_server.registry.app import all_routes
from tests.web.place import Place

_NO_PAGES = {"/assets/{path:path}", "/live"}  # files, and the stream that pages listen to


@dataclass(frozen=True)
class Example:
    """One page to look at.

    `name` is that of its picture, `path` the route's; `asks` is what follows it. Parameters in
    braces are filled from `Place.names`, by `of` where the name there is another. `words` are what
    it says in any language.
    """

    name: str
    path: str
    role: PersonRole | None = "coordinator"  # None: nobody is signed in
    of: str = ""
    asks: str = ""
    status: int = 200
    words: tuple[str, ...] = ()

    def address(self, place: Place) -> str:
        """Path and query at this registry."""
        names = dict(place.names)
        if self.of:
            parameter = self.path.partition("{")[2].partition("}")[0]
            names[parameter] = place.names[self.of]
        return self.path.format(**names) + self.asks.format(**names)


EXAMPLES = (
    Example("sign-in", "/sign-in", None),
    Example("welcome", "/welcome", None),
    Example("second-factor", "/second-factor", "owner"),
    Example(
        "home-steward", "/", "steward", words=("Northgate Hospital", "Screening model with age")
    ),
    Example(
        "home-coordinator",
        "/",
        "coordinator",
        words=("Screening model, full", "St Luke's Infirmary", "Tumour screening, second year"),
    ),
    Example("home-auditor", "/", "auditor", words=("result-differs", "Screening model, full")),
    Example("runs", "/runs", words=("Screening model, pilot", "Screening model, wider clipping")),
    Example(
        "run-completed",
        "/runs/{run}",
        "auditor",
        words=("Screening model, pilot", "Riverside Clinic", "auc"),
    ),
    Example(
        "run-live",
        "/runs/{run}",
        "coordinator",
        of="live",
        words=("Our scanner was replaced in round 3.", "was silent for 40 s"),
    ),
    Example(
        "run-waiting",
        "/runs/{run}",
        "steward",
        of="waiting",
        words=("Screening model with age", "Riverside Clinic"),
    ),
    Example(
        "run-refused",
        "/runs/{run}",
        "coordinator",
        of="refused",
        words=("Screening model, wider clipping", "clipping-above-cap"),
    ),
    Example(
        "no-such-run", "/runs/{run}", "steward", of="nowhere", status=404, words=("unknown-run",)
    ),
    Example(
        "runs-compared",
        "/runs/compare",
        asks="?run={run}&run={doubtful}&run={live}",
        words=("Screening model, pilot", "Screening model, repeated", "Screening model, full"),
    ),
    Example("models", "/models", words=("Screening model, pilot",)),
    Example("model", "/models/{run}", words=("Screening model, pilot", "Northgate Hospital")),
    Example(
        "agreements", "/agreements", words=("Tumour screening", "Tumour screening, second year")
    ),
    Example(
        "agreement",
        "/agreements/{agreement_hash}",
        "auditor",
        words=("Tumour screening", "University Cancer Registry"),
    ),
    Example(
        "agreement-draft",
        "/agreements/{agreement_hash}",
        "steward",
        of="draft",
        words=("Tumour screening, second year", "accord-node agreement sign"),
    ),
    Example(
        "agreement-check",
        "/agreements/{agreement_hash}/check",
        asks="?task=tabular-binary&architecture=mlp&noise=0.5&rate=0.9",
        words=("Northgate Hospital/tumours", "sampling-rate"),
    ),
    Example("budgets", "/budgets", "auditor", words=("Northgate Hospital", "Riverside Clinic")),
    Example("datasets", "/datasets", "steward", words=("tumours", "Northgate Hospital")),
    Example("dataset", "/datasets/{dataset}", "steward", words=("tumours", "Tumour screening")),
    Example("partners", "/partners", words=("Computing Centre", "Test CA")),
    Example("partner", "/partners/{party}", words=("Northgate Hospital",)),
    Example("audit", "/audit", "auditor", words=("result-differs", "Computing Centre")),
    Example("record", "/records/{record_hash}", "auditor", words=("University Cancer Registry",)),
    Example(
        "activity",
        "/feed",
        words=("Registry moves on 1 December", "Our scanner was replaced in round 3."),
    ),
    Example("people", "/people", "owner", words=("oscar-hale",)),
    Example("people-access", "/people", "auditor", words=("stella-braun", "Riverside Clinic")),
    Example("account", "/account", "steward", words=("stella-braun", "Northgate Hospital")),
)


def page_routes() -> set[str]:
    """Paths of the application's routes that a person opens."""
    return {
        route.path
        for route in all_routes()
        if not route.include_in_schema and route.path not in _NO_PAGES
    }
