"""`accord demo`: three institutions train one model on this machine."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from accord_common.cli import Format, FormatOption, emit, note

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: accord demo --format json")
def demo(
    home: Annotated[Path, typer.Option(help="Where all of it is kept.")] = Path(".accord-demo"),
    serve: Annotated[bool, typer.Option(help="Leave it running, with addresses to visit.")] = False,
    reset: Annotated[bool, typer.Option(help="Clear an earlier demo first.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Start a registry, an aggregator and three nodes, sign an agreement, and train for 8 rounds.

    Real processes, TLS, node keys, differential privacy and masked sums; then one run that the
    nodes refuse, and why. Ctrl-C stops everything that was started.
    """
    from accord_server.demo.story import demonstration

    folder = home.expanduser().resolve()
    with demonstration(folder, reset=reset, report=note) as (federation, outcome):
        seconds = sum(outcome.rounds_s)
        emit(
            outcome.to_json(),
            format_,
            f"\n{outcome.nodes} hospitals, {len(outcome.rounds_s)} rounds in {seconds:.1f} s: "
            + ", ".join(f"{name} {value:.3f}" for name, value in outcome.metrics.items())
            + "\nepsilon spent: "
            + ", ".join(f"{site} {value:.2f}" for site, value in outcome.epsilon.items())
            + f" (of 3, delta 1e-5, by record)\na run beyond the budget: {outcome.refusal}\n"
            f"everything it left: {folder}",
        )
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
