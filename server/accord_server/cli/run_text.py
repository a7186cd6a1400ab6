"""How `accord run` shows plans and runs to people."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from accord_common.api.schemas import (
    FINAL_STATES,
    ConsentView,
    EventView,
    RoundView,
    RunView,
)
from accord_common.chain import VerifiedResult, VerifiedRun
from accord_common.cli import Format, emit, note, table
from accord_common.errors import AccordError
from accord_common.privacy import words
from accord_server.cli.options import size
from accord_server.coordinator.queueing import BUSY
from accord_server.coordinator.updates import (
    ConsentUpdate,
    ContactUpdate,
    EndUpdate,
    LogUpdate,
    RoundUpdate,
    StandingUpdate,
    StateUpdate,
    Update,
)

if TYPE_CHECKING:  # planning brings the accountants, which watching does not need
    from accord_server.coordinator.planning import PlanView
    from accord_server.coordinator.resuming import Continuation


UNSIGNED = "(the registry's own finding; no signed result says so yet)"


def plan(view: "PlanView") -> RenderableType:
    """A dry run's answer."""
    head = Text(
        "".join(f"{line}\n" for line in _no_privacy(view.privacy))
        + f"{view.title}, under {view.agreement_title}\n"
        f"{view.task}, {view.architecture}: "
        f"{parameters(view.dimension, view.base_dimension)}\n"
        f"{view.rounds} rounds of {view.steps} steps, at most {view.max_attempts_total} attempts\n"
        f"sum of at least {view.smallest_cohort} of {len(view.sites)} updates "
        f"(threshold {view.threshold}, {view.colluders} may collude)\n"
        f"a round moves {size(view.bytes.round_per_site)} a site, up in words of "
        f"{view.ring_bits} bits; memory about "
        f"{size(view.bytes.node_memory)} at a node beside its rows, "
        f"{size(view.bytes.aggregator_memory)} at the aggregator\n"
    )
    sites = table(
        "dataset",
        "noise",
        "rate",
        "epsilon",
        "PLD",
        "without retries",
        "spent",
        "needs",
        "left",
        "cap",
        rows=[
            [
                site.label,
                site.noise_multiplier,
                site.sampling_rate,
                words.cost(site.epsilon),
                words.cost(site.epsilon_pld),
                words.cost(site.epsilon_rounds),
                words.spent(site.spent, site.non_private),
                words.cost(site.needs),
                site.left,
                f"{site.cap} at {site.delta}",
            ]
            for site in view.sites
        ],
    )
    legend = Text(
        "\nepsilon: what all attempts count against the cap. PLD: the tighter figure for a plan "
        "fixed beforehand, checked against PRV.\n"
        "needs: what this run adds to what is spent; left: what receipts at the registry leave of "
        "the cap.\n"
        + (f"{words.NO_GUARANTEE}\n" if any(site.non_private for site in view.sites) else "")
    )
    verdict = [Text("Allowed by the agreement; each node decides for itself.", "green")]
    if not view.allowed:
        verdict = [Text("Not allowed:", "red")]
        for reason in view.reasons:
            verdict.append(Text(f"  [{reason.code}] {reason.message}"))
            verdict += [Text(f"    {reason.hint}")] if reason.hint else []
    return Group(head, Text(sites), legend, *verdict)


def _no_privacy(mode: str) -> list[str]:
    return [] if mode == "dp" else ["WITHOUT PRIVACY: this run protects nobody's record"]


def parameters(trained: int, base: int | None) -> str:
    """How much is trained, of what."""
    if base is None:
        return f"{trained:,} parameters"
    return f"{trained:,} parameters trained beside a public base of {base:,}"


def started(answer: dict[str, Any]) -> str:
    """What to do after a start."""
    commands = answer["commands"]
    return (
        f"run {answer['run']}: {answer['title']}\n"
        f"waits for the consent of {', '.join(answer['sites'])}\n\n"
        f"Stewards:  {commands['steward']}\n"
        f"Watch it:  {commands['watch']}"
    )


def continuation(told: "Continuation", view: "PlanView") -> str:
    """What going on from an ended run asks for."""
    lines = [
        f"{view.title}, under {view.agreement_title}",
        f"{told.completed} of {told.rounds} rounds of run {told.run} are complete; "
        f"{told.attempts} attempts were charged, and stay so",
        f"this asks for {told.asked_rounds} more rounds, at most {told.asked_attempts} attempts",
        *(
            f"  {site.label}: {site.spent} spent, this needs {words.cost(site.needs)} more, "
            f"{site.left} is left of {site.cap}"
            for site in view.sites
        ),
    ]
    if told.moments_lost:
        lines.append("the server's optimiser begins anew: its moments are not kept")
    return "\n".join(lines)


def run(
    view: RunView,
    verified: VerifiedRun,
    result: VerifiedResult | None,
    rounds: Sequence[RoundView],
    busy: Mapping[str, str],
) -> RenderableType:
    """One run; `busy` names the run that has the dataset of each site that waits for it."""
    agreement, manifest = verified.agreement, verified.manifest
    name = {party.id: party.name for party in agreement.parties}
    proved = "agreement, manifest, offer and delegations"
    head = [
        f"{view.title}, under {agreement.title}",
        f"run       {view.id}",
        f"manifest  {view.manifest_hash}",
        f"state     {state(view)}",
        *([f"waits     {waits(view)}"] if view.standing else []),
        *(
            [f"goes on   from run {view.continues.run}, round {view.continues.rounds}"]
            if view.continues
            else []
        ),
        f"task      {manifest.task.name}, {manifest.architecture.name}, "
        + parameters(
            manifest.dimension, manifest.adaptation.dimension if manifest.adaptation else None
        ),
        *_no_privacy(manifest.privacy),
        f"round     {view.round} of {view.rounds}, at most {manifest.max_attempts_total} attempts",
        f"verified  {proved}" + (", receipts and result" if result else ""),
    ]
    if result is not None and result.result.model:
        head.append(f"model     {result.result.model}")
    if view.metrics:
        head.append(f"metrics   {_pairs(view.metrics)}")
    consents = {consent.party: consent for consent in view.consents}
    spent = {item.party: words.cost(item.epsilon) for item in view.epsilon}
    sites = table(
        "site",
        "consent",
        "takes part",
        "epsilon",
        rows=[
            [
                name[site.party],
                _consent(consents.get(site.party), busy.get(site.party)),
                _part(consents.get(site.party)),
                spent.get(site.party, "0"),
            ]
            for site in manifest.roster
        ],
    )
    done = table(
        "round",
        "attempt",
        "outcome",
        "seconds",
        "lost",
        "refused",
        rows=[
            [
                str(item.round + 1),
                str(item.attempt + 1),
                item.outcome,
                f"{item.seconds:.2f}",
                ", ".join(name.get(party, party) for party in item.lost),
                _refused({name.get(party, party): code for party, code in item.refused.items()}),
            ]
            for item in rounds
        ],
    )
    parts: list[RenderableType] = [Text("\n".join(head) + "\n"), Text(sites)]
    if rounds:
        parts += [Text(), Text(done)]
    return Group(*parts)


def state(view: RunView) -> str:
    """A run's state, and why."""
    end = f" [{view.code}] {view.cause}" if view.code else ""
    return view.state + end + (f" {UNSIGNED}" if view.unsigned else "")


def waits(view: RunView) -> str:
    """What a run waits for; empty where it goes on."""
    found = view.standing
    return f"{found.message} (since {found.since}) [{found.code}]" if found else ""


def stopped(view: RunView) -> str:
    """What became of a request to stop."""
    words = f"{view.id}: {state(view)}"
    if view.state not in FINAL_STATES:
        words += f"; asked to stop: {view.stop_requested}"
    return words + f"\n{view.round} of {view.rounds} rounds are complete; what was spent is spent"


def line(event: EventView) -> str:
    """One line of a run's log."""
    return f"{event.created}  {event.level:<7}  {event.message}"


def away(error: AccordError) -> None:
    """Say that the registry is asked again."""
    note(f"the registry does not answer: {error}; it is asked again")


class Screen:
    """Shows updates as they come: a progress bar on a terminal, lines elsewhere, or JSON lines."""

    def __init__(self, format_: Format, view: RunView, *, live: bool) -> None:
        self._format = format_
        self._progress: Progress | None = None
        if live and format_ is Format.TEXT:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
            )
            self._task = self._progress.add_task("round", total=view.rounds, completed=0)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, update: Update) -> None:
        """Show one update."""
        if self._progress is None:
            emit(update, self._format, Text(words_of(update)))
            return
        self._progress.console.print(Text(words_of(update)))
        if isinstance(update, RoundUpdate) and update.outcome == "completed":
            self._progress.update(self._task, completed=update.round)


def words_of(update: Update) -> str:
    """One update, for people."""
    match update:
        case StateUpdate():
            asked = f"; asked to stop: {update.stop_requested}" if update.stop_requested else ""
            return f"{update.state}{asked}"
        case StandingUpdate(code=None):
            return f"  {update.message}"
        case StandingUpdate():
            return f"  {update.message} (since {update.since}) [{update.code}]"
        case ContactUpdate(reachable=True):
            return f"  the registry answers again; it did not since {update.since}"
        case ContactUpdate():
            return (
                f"  the registry does not answer since {update.since}: {update.message} "
                f"[{update.code}]; known last: {update.last}; it is asked again"
            )
        case ConsentUpdate(decision="accept"):
            return f"{update.site} accepts"
        case ConsentUpdate():
            return f"{update.site} refuses [{update.code}] {update.reason}"
        case RoundUpdate():
            return _round(update)
        case LogUpdate():
            return f"  {update.level}: {update.message}"
        case EndUpdate():
            return _end(update)


def _round(update: RoundUpdate) -> str:
    words = [f"round {update.round}/{update.rounds}", f"{update.seconds:.2f} s"]
    if update.attempt or update.outcome == "aborted":
        words.append(f"attempt {update.attempt + 1} {update.outcome}")
    if update.lost:
        words.append(f"lost {', '.join(update.lost)}")
    if update.refused:
        words.append(f"refused by {_refused(update.refused)}")
    if update.metrics:
        words.append(_pairs(update.metrics))
    if update.epsilon:
        words.append("epsilon " + _pairs(update.epsilon))
    return "  ".join(words)


def _end(update: EndUpdate) -> str:
    words = [f"{update.state} after {update.rounds} rounds"]
    if update.state == "refused":
        words = [f"refused by {', '.join(update.refused_by)}"]
    if update.code:
        words.append(f"[{update.code}] {update.cause}")
    if update.unsigned:
        words.append(UNSIGNED)
    words += [
        f"without {site} from round {refusal.round} on [{refusal.code}]"
        for site, refusal in update.refused.items()
    ]
    if update.metrics:
        words.append(_pairs(update.metrics) + (" (signed)" if update.evaluation else ""))
    if update.epsilon:
        words.append("epsilon " + _pairs(update.epsilon))
    return "  ".join(words)


def _consent(consent: ConsentView | None, busy: str | None) -> str:
    if consent is None or consent.decision is None:
        return "waits" if busy is None else f"waits for run {busy} [{BUSY}]"
    return f"refuse [{consent.code}]" if consent.code else "accept"


def _part(consent: ConsentView | None) -> str:
    if consent is None or consent.decision != "accept":
        return "no"
    refusal = consent.refusal
    return "yes" if refusal is None else f"not from round {refusal.round + 1} [{refusal.code}]"


def _refused(codes: dict[str, str]) -> str:
    return ", ".join(f"{site} [{code}]" for site, code in codes.items())


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
