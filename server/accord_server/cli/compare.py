"""`accord run compare`: runs side by side, from their verified records."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer

from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_run
from accord_common.cli import Format, FormatOption, emit, table
from accord_common.home import Home
from accord_server.cli.options import DEFAULT_HOME, HomeOption
from accord_server.coordinator import desk
from accord_server.coordinator.comparing import (
    Comparison,
    Evidence,
    PrivacyCost,
    RunColumn,
    SiteSpend,
    check_count,
)
from accord_server.coordinator.comparing import compare as set_side_by_side

_HASH = 64  # digits
_SHOWN = 12  # digits of a hash, for people
_NEIGHBOURS = {"add-remove": "adding or removing", "replace-one": "replacing"}

RunsArgument = Annotated[
    list[str], typer.Argument(help="2 to 8 ids, or their first or last characters.")
]


def compare(
    runs: RunsArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Set runs side by side: privacy, epsilon, metrics, and where their configurations differ.

    Everything is fetched and verified first; exits with 5 where a signature or chain does not hold.
    What training alone would give an institution is told there, by accord-node compare.
    """
    check_count(runs)
    with Home.open(home.expanduser()).registry() as client:
        found = [_evidence(client, text) for text in runs]
    check_count([item.run.manifest.id for item in found])
    answer = set_side_by_side(found)
    emit(answer, format_, words(answer))


def _evidence(client: RegistryClient, text: str) -> Evidence:
    view = find_run(client, text)
    run = desk.verified_run(client, view)
    result = desk.verified_result(client, run)
    evaluations = [] if result is None else desk.verified_evaluations(client, run, result)
    seconds = [attempt.seconds for attempt in client.rounds(view.id)]
    return Evidence(view.state, run, result, evaluations, seconds)


def words(answer: Comparison) -> str:
    """A comparison for people: a column for each run, named by a letter."""
    letters = {run.run: chr(ord("A") + index) for index, run in enumerate(answer.runs)}
    rows = [
        [name, *map(cell, answer.runs)]
        for name, cell in (*_FACTS, *_spends(answer.runs), *_metrics(answer), *_HOLDOUT)
    ]
    lines = [
        *(f"{letters[run.run]}  {run.run}  {run.title}" for run in answer.runs),
        "",
        table("", *letters.values(), rows=rows),
    ]
    if answer.configuration:
        differing = [[row.field, *map(_short, row.values)] for row in answer.configuration]
        lines += ["", table("they differ in", *letters.values(), rows=differing)]
    lines += ["", *(_cost(cost, letters) for cost in answer.privacy_cost)]
    lines += [f"warning [{one.code}]: {one.message}" for one in answer.warnings]
    lines += list(_legend(answer))
    return "\n".join(lines)


Cell = Callable[[RunColumn], str]


def _sums(run: RunColumn) -> str:
    if run.smallest_cohort is None:
        return ""
    cohorts = sorted({run.smallest_cohort, run.largest_cohort or run.smallest_cohort})
    return f"{' to '.join(map(str, cohorts))} of {run.sites} sites"


_FACTS: tuple[tuple[str, Cell], ...] = (
    ("state", lambda run: run.state + (f" [{run.code}]" if run.code else "")),
    ("privacy", lambda run: "private" if run.privacy == "dp" else "none"),
    ("rounds", lambda run: f"{run.rounds} of {run.rounds_planned}"),
    ("repeated attempts", lambda run: str(run.aborted)),
    ("in each sum", _sums),
    ("time in rounds", lambda run: f"{run.seconds:.1f} s"),
)
_HOLDOUT: tuple[tuple[str, Cell], ...] = (
    (
        "public hold-out",
        lambda run: f"{run.holdout[:_SHOWN]}, {run.holdout_rows} rows" if run.holdout else "",
    ),
)


def _spends(runs: Sequence[RunColumn]) -> Iterator[tuple[str, Cell]]:
    sites = dict.fromkeys(spend.site for run in runs for spend in run.epsilon)
    for site in sites:

        def cell(run: RunColumn, site: str = site) -> str:
            return next((_epsilon(spend) for spend in run.epsilon if spend.site == site), "")

        yield f"epsilon {site}", cell


def _epsilon(spend: SiteSpend) -> str:
    return "no guarantee" if spend.epsilon is None else f"{spend.epsilon} at {spend.delta}"


def _metrics(answer: Comparison) -> Iterator[tuple[str, Cell]]:
    for name, gains in answer.gains.items():
        by_run = dict(zip((run.run for run in answer.runs), gains, strict=True))

        def cell(run: RunColumn, name: str = name, by_run: dict[str, float | None] = by_run) -> str:
            if name not in run.metrics:
                return ""
            gain = by_run[run.run]
            return f"{run.metrics[name]:.4f}" + (f" ({gain:+.4f})" if gain else "")

        yield name, cell


def _short(value: str) -> str:
    is_hash = len(value) == _HASH and not set(value) - set("0123456789abcdef")
    return value[:_SHOWN] if is_hash else value


def _cost(cost: PrivacyCost, letters: dict[str, str]) -> str:
    told = f"{letters[cost.private]} against {letters[cost.non_private]}: "
    told += f"privacy cost {cost.cost:.4f} {cost.metric}"
    if cost.also_differ:
        told += f"; they also differ in {', '.join(cost.also_differ)}"
    return told


def _legend(answer: Comparison) -> Iterator[str]:
    neighbours = {spend.adjacency for run in answer.runs for spend in run.epsilon if spend.epsilon}
    for adjacency in sorted(neighbours):
        yield f"epsilon at delta, for {_NEIGHBOURS[adjacency]} one record; all attempts of the run."
    if any(run.privacy == "none" for run in answer.runs):
        yield "no guarantee: nothing bounds what such a run tells about a record."
    rows = [run.holdout_rows for run in answer.runs if run.holdout_rows]
    if rows:
        yield (
            f"Runs sample anew each time: on {min(rows)} rows, differences below about "
            f"{min(rows) ** -0.5:.2f} may be chance."
        )
    yield "Whether joining paid is told at each institution: accord-node compare."
