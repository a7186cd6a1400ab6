"""`accord demo`: institutions train one model on this machine."""

import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord_common.cli import Format, FormatOption, emit, note
from accord_server.cli.data import DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from accord_server.demo.scenario import Scenario
    from accord_server.demo.story import Outcome

app = typer.Typer(add_completion=False)


class Data(StrEnum):
    """Whose rows are trained on."""

    TUMOURS = "tumours"
    HEART = "heart"


@app.command(epilog="Example: accord demo --data heart")
def demo(
    home: Annotated[Path, typer.Option(help="Where all of it is kept.")] = Path(".accord-demo"),
    data: Annotated[
        Data,
        typer.Option(help="tumours: three shares of one table; heart: UCI's four hospitals."),
    ] = Data.TUMOURS,
    data_dir: DataDirOption = DATA_DIR,
    serve: Annotated[bool, typer.Option(help="Leave it running, with addresses to visit.")] = False,
    reset: Annotated[bool, typer.Option(help="Clear an earlier demo first.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Start a registry, an aggregator and a node for each hospital, sign an agreement, and train.

    Real processes, TLS, node keys, differential privacy and masked sums; then one run that the
    nodes refuse, and why. Ctrl-C stops everything that was started.
    """
    from accord_server.demo.scenario import SCENARIOS
    from accord_server.demo.story import demonstration

    scenario = SCENARIOS[data.value](data_dir.expanduser())
    folder = home.expanduser().resolve()
    with demonstration(folder, scenario, reset=reset, report=note) as (federation, outcome):
        told = _told(scenario, outcome)
        emit(outcome.to_json(), format_, f"{told}\neverything it left: {folder}")
        if serve:
            invited = federation.office("partner", "invite", "--role", "auditor", "--name", "Guest")
            note(
                f"\nThe registry runs at {federation.registry_url} until Ctrl-C.\n"
                "Join as an auditor, once, from another terminal:\n"
                f"  accord init --name Guest --role auditor --jurisdiction DE --home guest\n"
                f"  accord enroll --home guest {invited['invitation']}\n"
                f"Or act as the coordinator: --home {federation.coordinator.home / 'accord'}"
            )
            signal.pause()


def _told(scenario: "Scenario", outcome: "Outcome") -> str:
    """What came of it, in words."""
    seconds = sum(outcome.rounds_s)
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in outcome.metrics.items())
    spent = ", ".join(f"{site} {value:.2f}" for site, value in outcome.epsilon.items())
    lines = [
        f"\n{outcome.nodes} hospitals, {len(outcome.rounds_s)} rounds in {seconds:.1f} s: "
        f"{metrics}",
        *(
            f"  right at {site}: {score['accuracy']:.0%} of rows that nobody trained on; "
            f"its more frequent answer alone: {score['majority']:.0%}"
            for site, score in outcome.by_site.items()
        ),
        f"epsilon spent: {spent} (of {scenario.cap}, delta {scenario.delta:g}, by record)",
        f"a run beyond the budget: {outcome.refusal}",
    ]
    return "\n".join(lines)
