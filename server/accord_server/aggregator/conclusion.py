"""A run's last word: how it ended, and what it cost each dataset."""

from collections.abc import Mapping

from accord_common.chain import VerifiedRun
from accord_common.costs import spent
from accord_common.fields import format_time, now
from accord_common.privacy.accounting import Tally
from accord_common.privacy.report import report_epsilon
from accord_common.receipts import RunResult
from accord_server.aggregator.control import Ending
from accord_server.aggregator.history import History

MAX_CAUSE = 4000  # characters: fields.Text's bound


def conclude(
    run: VerifiedRun, history: History, ending: Ending, refused: Mapping[str, str]
) -> RunResult:
    """Write the result for the receipt key to sign; the model is the last completed round's.

    Args:
        run: the run.
        history: what its journal says.
        ending: how it ended.
        refused: who took no part at the end: party -> code.
    """
    return RunResult(
        previous=history.head,
        manifest=run.manifest_hash,
        status=ending.status,
        cause=plain(ending.cause),
        code=ending.code,
        refused=dict(refused),
        rounds=history.round,
        model=history.model if history.round else None,
        epsilon=spent(run, history.charged),
        created=format_time(now()),
    )


def warm_up() -> None:
    """Load the accountant, which takes about a second, before the first run ends."""
    report_epsilon(Tally.build({("1", "0.5"): 1}, ["add-remove"]), 1e-5)


def plain(text: str) -> str:
    """Make `text` fit a record's Text field: no control characters, bounded."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_CAUSE]
