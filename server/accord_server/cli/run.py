"""`accord run`: plan, start, watch, stop, resume and compare runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_common.api.client import RegistryClient
from accord_common.api.finding import find_run
from accord_common.cli import (
    Format,
    FormatOption,
    PassphraseOption,
    YesOption,
    confirm,
    emit,
    note,
    read_passphrase,
    table,
    verbs,
)
from accord_common.fields import now
from accord_common.home import Home
from accord_server.cli import run_text
from accord_server.cli.compare import compare
from accord_server.cli.options import DEFAULT_HOME, HomeOption
from accord_server.coordinator import desk, documents
from accord_server.coordinator.plan_file import PlanFile
from accord_server.coordinator.queueing import BUSY, waiting

if TYPE_CHECKING:
    from accord_common.identity import SigningKey
    from accord_common.manifest import RunManifest
    from accord_server.coordinator.session import Session
    from accord_server.coordinator.starting import Prepared
    from accord_server.coordinator.updates import EndUpdate

app = verbs("Plan, start, watch, stop, resume and compare runs.")

PlanArgument = Annotated[Path, typer.Argument(help="Short YAML: what to train, and how privately.")]
RunArgument = Annotated[str, typer.Argument(help="Id, or its first or last characters.")]
HoldoutOption = Annotated[
    Path | None,
    typer.Option(
        help="Public rows (.csv, .parquet, .txt) or pictures: each new model is scored on them."
    ),
]
SchemaOption = Annotated[
    Path | None, typer.Option(help="Their schema; the registered one otherwise.")
]
SignOption = Annotated[
    bool, typer.Option("--sign/--no-sign", help="Sign and post the final metrics.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Watch it to its end.")]


@app.command(epilog="Example: accord run plan plan.yaml")
def plan(
    plan_file: PlanArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Say whether a plan is allowed and what it costs; nothing is signed or sent.

    Exits with 3 where the agreement or a budget forbids it.
    """
    from accord_server.coordinator.starting import prepare

    with Home.open(home.expanduser()).registry() as client:
        view = prepare(client, documents.read(plan_file, PlanFile), now()).view
    emit(view, format_, run_text.plan(view))
    if not view.allowed:
        raise typer.Exit(3)


@app.command(epilog="Example: accord run start plan.yaml --wait --holdout public.csv")
def start(
    plan_file: PlanArgument,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    wait: WaitOption = False,
    holdout: HoldoutOption = None,
    schema: SchemaOption = None,
    sign: SignOption = True,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Ask the nodes even if the plan is not allowed.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make initial weights, sign the manifest, and put the run before the institutions."""
    from accord_server.coordinator import starting

    opened = Home.open(home.expanduser())
    wanted = documents.read(plan_file, PlanFile)
    key = opened.identity(read_passphrase(passphrase_file))
    with opened.registry() as client:
        prepared = starting.prepare(client, wanted, now())
        if not anyway:
            starting.refuse_if_forbidden(prepared.view)
        signed = starting.start(client, prepared, key, now())
        answer = _started(prepared, *signed)
        emit({"event": "started"} | answer if wait else answer, format_, run_text.started(answer))
        if wait:
            _watch(client, signed[1].id, format_, (holdout, schema), key if sign else None)


@app.command("list", epilog="Example: accord run list --format json")
def list_(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """List runs, oldest first."""
    with Home.open(home.expanduser()).registry() as client:
        runs = client.runs()
    rows = [
        [
            run.id,
            run.title,
            run.state,
            f"{run.round}/{run.rounds}",
            run.code or (run.standing.code if run.standing else ""),
            run.created,
        ]
        for run in runs
    ]
    emit(runs, format_, table("run", "title", "state", "round", "why", "created", rows=rows))


@app.command(epilog="Example: accord run show 0197a1b2")
def show(
    run: RunArgument, home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT
) -> None:
    """Show a run; everything it stands on is fetched and verified first.

    Exits with 5 where a signature, hash or chain does not hold.
    """
    with Home.open(home.expanduser()).registry() as client:
        view = find_run(client, run)
        verified = desk.verified_run(client, view)
        result = desk.verified_result(client, verified)
        rounds = client.rounds(view.id)
        busy = waiting(view, client.runs())
    answer = {
        "run": view,
        "waiting": {party: {"code": BUSY, "run": other} for party, other in busy.items()},
        "manifest": verified.manifest.to_json(),
        "result": None if result is None else result.result.to_json(),
        "rounds": rounds,
        "verified": ["agreement", "manifest", "offer", "delegations"]
        + ([] if result is None else ["receipts", "result"]),
    }
    emit(answer, format_, run_text.run(view, verified, result, rounds, busy))


@app.command(epilog="Example: accord run watch 0197a1b2 --holdout public.csv")
def watch(
    run: RunArgument,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    holdout: HoldoutOption = None,
    schema: SchemaOption = None,
    sign: SignOption = True,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Follow a run to its end: consents, rounds, metric, epsilon of each site.

    A registry or an aggregator that is away is told, with since when, and waited for. With --format
    json each line is one event, the last has event "end". Exits with 0 where the run
    completed, 1 where it failed or was stopped, 3 where a node refused.
    """
    opened = Home.open(home.expanduser())
    signs = sign and holdout is not None and opened.profile.role == "coordinator"
    key = opened.identity(read_passphrase(passphrase_file)) if signs else None
    with opened.registry() as client:
        _watch(client, find_run(client, run).id, format_, (holdout, schema), key)


@app.command(epilog="Example: accord run stop 0197a1b2 --reason 'wrong learning rate'")
def stop(
    run: RunArgument,
    reason: Annotated[str, typer.Option(help="Partners will read it.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until the run has ended.")] = True,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End a run, in whatever state, and say what became of it; what was spent stays spent.

    Its aggregator ends it within the round; where none answers, the registry does after a minute.
    Again is no harm. Exits with 1 where the run ended otherwise before.
    """
    from accord_server.coordinator.updates import EndUpdate
    from accord_server.coordinator.watching import stopped, watch

    with Home.open(home.expanduser()).registry() as client:
        view = find_run(client, run)
        if view.state != "stopped":
            view = client.stop(view.id, reason)
        if wait and view.state != "stopped":
            for update in watch(client, desk.verified_run(client, view)):
                if format_ is Format.TEXT and not isinstance(update, EndUpdate):
                    note(run_text.words_of(update))
            view = client.run(view.id)
    emit(view, format_, run_text.stopped(view))
    if (error := stopped(view)) is not None:
        raise error


@app.command(epilog="Example: accord run resume 0197a1b2 --wait")
def resume(
    run: RunArgument,
    home: HomeOption = DEFAULT_HOME,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    wait: WaitOption = False,
    holdout: HoldoutOption = None,
    schema: SchemaOption = None,
    sign: SignOption = True,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Go on from a run that failed or was stopped: a new run, from its last completed round.

    The nodes are asked again, and pay for the rounds that remain. A run that is not over needs no
    resuming: it goes on by itself once its aggregator is there.
    """
    from accord_server.coordinator import resuming, starting

    opened = Home.open(home.expanduser())
    with opened.registry() as client:
        found = resuming.prepare(client, find_run(client, run), now())
        starting.refuse_if_forbidden(found.prepared.view)
        if format_ is Format.TEXT:
            note(run_text.continuation(found.continuation, found.prepared.view))
        confirm("Sign the new run and ask the institutions?", yes=yes)
        key = opened.identity(read_passphrase(passphrase_file))
        signed = starting.put(client, found.prepared, [], key, now())
        answer = _started(found.prepared, *signed) | {
            "continues": found.continuation.model_dump(mode="json")
        }
        emit({"event": "started"} | answer if wait else answer, format_, run_text.started(answer))
        if wait:
            _watch(client, signed[1].id, format_, (holdout, schema), key if sign else None)


app.command(epilog="Example: accord run compare 0197a1b2 0197a1c4")(compare)


@app.command(epilog="Example: accord run logs 0197a1b2 --follow")
def logs(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the run is over.")] = False,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show a run's log: one line each, or one JSON object a line with --follow."""
    from accord_server.coordinator.watching import log_lines

    with Home.open(home.expanduser()).registry() as client:
        found = find_run(client, run).id
        if not follow:
            lines = list(log_lines(client, found, follow=False))
            emit(lines, format_, "\n".join(run_text.line(item) for item in lines))
            return
        for item in log_lines(client, found, follow=True, away=run_text.away):
            emit(item, format_, run_text.line(item))


def _started(prepared: "Prepared", manifest_hash: str, manifest: "RunManifest") -> dict[str, Any]:
    names = [prepared.agreement.party(site.party).name for site in manifest.roster]
    return {
        "run": manifest.id,
        "manifest": manifest_hash,
        "title": manifest.title,
        "sites": names,
        "commands": {
            "steward": f"accord-node approve {manifest.id}",
            "watch": f"accord run watch {manifest.id}",
        },
    }


def _watch(
    client: RegistryClient,
    run_id: str,
    format_: Format,
    rows: tuple[Path | None, Path | None],
    key: "SigningKey | None",
) -> None:
    """Follow a run; score, publish, and leave with the exit code of how it ended."""
    from accord_server.coordinator.session import Session
    from accord_server.coordinator.updates import EndUpdate, RoundUpdate
    from accord_server.coordinator.watching import verdict, watch

    view = client.run(run_id)
    session = Session(client, view, *rows)
    error = None
    with run_text.Screen(format_, view, live=sys.stdout.isatty()) as screen:
        for update in watch(client, session.run, session.score):
            if isinstance(update, EndUpdate):
                error = verdict(update)
                update = _proved(update, session, key)
            screen.show(update)
            if key is not None and isinstance(update, RoundUpdate):
                session.tell(update)
    if error is not None:
        raise error


def _proved(end: "EndUpdate", session: "Session", key: "SigningKey | None") -> "EndUpdate":
    """Verify a completed run's result down to the manifest; add the metrics of its model."""
    if end.state != "completed":
        return end
    result = session.result().result
    if not session.scores:
        return end.model_copy(update={"model": result.model})
    evaluation = session.evaluate(now())
    metrics = {name: float(value) for name, value in evaluation.metrics.items()}
    record = None if key is None else session.publish(evaluation, key)
    return end.model_copy(update={"model": result.model, "metrics": metrics, "evaluation": record})
