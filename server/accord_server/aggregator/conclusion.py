"""A run's last word: how it ended, and what it cost each dataset.

Epsilon follows from the manifest's public mechanism and the attempts that a site's node was, or may
have been, sent: an attempt is charged when it is sent, whatever comes of it. It is the run's own
cost; what a population has spent in all, and the cap, are the node's ledger's to say.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from accord_common.chain import VerifiedRun
from accord_common.fields import format_time, now
from accord_common.privacy.accounting import Tally, decimal_up
from accord_common.privacy.filter import Cap, RdpFilter
from accord_common.privacy.report import report_epsilon
from accord_common.receipts import DatasetEpsilon, RunResult
from accord_server.aggregator.history import History

MAX_CAUSE = 4000  # characters: fields.Text's bound


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, for programs (`code`) and people (`cause`)."""

    status: Literal["completed", "failed", "stopped"]
    code: str
    cause: str


def conclude(run: VerifiedRun, history: History, ending: Ending) -> RunResult:
    """Write the result for the receipt key to sign; the model is the last completed round's."""
    return RunResult(
        previous=history.head,
        manifest=run.manifest_hash,
        status=ending.status,
        cause=plain(ending.cause),
        code=ending.code,
        rounds=history.round,
        model=history.model if history.round else None,
        epsilon=spent(run, history.charged),
        created=format_time(now()),
    )


def spent(run: VerifiedRun, charged: Mapping[str, int]) -> list[DatasetEpsilon]:
    """Epsilon of each site's dataset, in roster order, for `charged[party]` attempts."""
    rows = []
    for site in run.manifest.roster:
        privacy = run.agreement.dataset(site.dataset).privacy
        attempts = charged.get(site.party, 0)
        steps = {(site.noise_multiplier, site.sampling_rate): attempts * run.manifest.local.steps}
        tally = Tally.build(steps if attempts else {}, [privacy.adjacency])
        delta = float(privacy.delta)
        epsilon = report_epsilon(tally, delta)
        if not math.isfinite(epsilon):  # the discretisation's tail alone exceeds delta
            epsilon = RdpFilter(Cap(epsilon="0", delta=privacy.delta)).epsilon(tally)
        rows.append(
            DatasetEpsilon(
                party=site.party,
                dataset=site.dataset,
                attempts=attempts,
                epsilon=decimal_up(epsilon),
                delta=privacy.delta,
            )
        )
    return rows


def warm_up() -> None:
    """Load the accountant, which takes about a second, before the first run ends."""
    report_epsilon(Tally.build({("1", "0.5"): 1}, ["add-remove"]), 1e-5)


def plain(text: str) -> str:
    """Make `text` fit a record's Text field: no control characters, bounded."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_CAUSE]
