"""`accord-node budget forecast`: what a run would need, and what is left for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption, emit

if TYPE_CHECKING:
    from accord_client.forecasts import Forecast, Proposal
    from accord_client.stores import Stores
    from accord_common.home import Home

EXAMPLE = "Example: accord-node budget forecast 0192f0c1-... (ids: accord-node status)"


def forecast(
    run: Annotated[
        str | None, typer.Argument(help="A run that was offered or accepted: id, or its end.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Without a run: whose people; name or id.")
    ] = None,
    sampling_rate: Annotated[
        str | None, typer.Option(help="Without a run: chance of each row in a step.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Without a run: steps of a round.")] = 1,
    rounds: Annotated[
        int, typer.Option(min=1, help="Without a run: rounds, repeated ones included.")
    ] = 1,
    noise_multiplier: Annotated[
        str | None,
        typer.Option(help="Without a run: the noise; the least that fits where it is left out."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say what a run needs and what is left, cap by cap, and how many such rounds would fit.

    For a run, or for constants: --dataset tumours --sampling-rate 0.1 --steps 10 --rounds 20.
    `needs` is what the epsilon of these people grows by if every attempt is charged; what other
    accepted runs may still charge is set aside first. Nothing is charged or sent.
    """
    from accord_client.forecasts import foresee, of_constants
    from accord_client.stores import open_stores
    from accord_common.errors import UsageError

    if (run is None) == (dataset is None or sampling_rate is None):
        raise UsageError(
            "bad-forecast",
            "give a run, or --dataset and --sampling-rate",
            hint="--steps, --rounds and --noise-multiplier go with the latter.",
        )
    opened = open_home(home)
    with open_stores(opened) as stores:
        if run is not None:
            proposal = _proposed(opened, stores, run)
        else:
            assert dataset is not None and sampling_rate is not None  # asked for above
            proposal = of_constants(
                stores,
                stores.datasets.find(dataset),
                _number("--sampling-rate", sampling_rate, most=1),
                steps,
                rounds,
                noise_multiplier and _number("--noise-multiplier", noise_multiplier),
            )
        found = foresee(stores, proposal)
    mechanism = [
        {"noise_multiplier": noise, "sampling_rate": rate, "steps": count}
        for noise, rate, count in proposal.one.steps
    ]
    answer = {
        "dataset": proposal.dataset.name,
        "mechanism": mechanism,
        "rounds": proposal.rounds,
        "allowed": all(one.fits for one in found),
        "forecasts": [_view(one) for one in found],
    }
    each = ", ".join(
        f"{one['steps']} steps at sampling rate {one['sampling_rate']}, noise multiplier "
        f"{one['noise_multiplier']}"
        for one in mechanism
    )
    title = f"{proposal.dataset.name}: {proposal.rounds} rounds or attempts of {each}"
    emit(answer, format_, "\n".join([title, *(line(one) for one in found)]))


def _number(option: str, text: str, most: int | None = None) -> str:
    from decimal import Decimal, InvalidOperation

    from accord_common.errors import UsageError
    from accord_common.fields import to_decimal

    try:
        number = to_decimal(Decimal(text))
        within = Decimal(number) > 0 and (most is None or Decimal(number) <= most)
    except (InvalidOperation, ValueError):
        within = False
    if not within:
        bound = "" if most is None else f" and at most {most}"
        raise UsageError("bad-forecast", f"{option} {text} is not a number above 0{bound}")
    return number


def _proposed(home: Home, stores: Stores, run: str) -> Proposal:
    """An accepted run from the node's own memory, an offered one from the registry."""
    from accord_client.forecasts import of_manifest
    from accord_common.api.finding import find_run
    from accord_common.errors import VerificationError

    for known in stores.state.runs():
        if known.decision == "accept" and run in (known.id, known.id[-len(run) :]):
            return of_manifest(stores, stores.state.record(known.manifest))
    with home.registry() as registry:
        view = find_run(registry, run)
        envelope = registry.record(view.manifest_hash)
    if envelope.hash != view.manifest_hash:
        raise VerificationError("wrong-hash", f"asked for {view.manifest_hash[:16]}")
    return of_manifest(stores, envelope)


def _view(one: Forecast) -> dict[str, Any]:
    from accord_common.privacy.words import difference

    balance = one.balance
    return {
        "dataset": balance.dataset.name,
        "agreement": balance.agreement,
        "title": balance.title,
        "needs": difference(one.needs),
        "left": difference(balance.left),
        "fits": one.fits,
        "rounds_that_fit": one.rounds_that_fit,
        "cap": balance.rule.cap.epsilon,
        "delta": balance.rule.cap.delta,
        "adjacency": one.adjacency,
    }


def line(one: Forecast) -> str:
    """Say needs and left, as the coordinator's plan does."""
    from accord_client.forecasts import MANY

    view = _view(one)
    verdict = "fits" if one.fits else "does not fit"
    count = f"more than {MANY}" if one.rounds_that_fit >= MANY else str(one.rounds_that_fit)
    return (
        f"  this needs {view['needs']}, you have {view['left']} left: {verdict} "
        f"({view['title']}: epsilon {view['cap']} at delta {view['delta']}, {view['adjacency']}; "
        f"such rounds that fit: {count})"
    )
