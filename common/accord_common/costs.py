"""What a run has cost each of its datasets.

Epsilon follows from the manifest's public mechanism and the attempts that a site's node was, or may
have been, sent: an attempt is charged when it is sent, whatever comes of it. It is the run's own
cost; what a population has spent in all, and the cap, are the node's ledger's to say.
"""

from collections.abc import Mapping

from accord_common.chain import VerifiedRun
from accord_common.privacy.accounting import Tally, decimal_up
from accord_common.privacy.report import bounded_epsilon
from accord_common.receipts import DatasetEpsilon


def spent(run: VerifiedRun, attempts: Mapping[str, int]) -> list[DatasetEpsilon]:
    """Epsilon of each site's dataset, in roster order, after `attempts[party]` attempts."""
    rows = []
    for site in run.manifest.roster:
        privacy = run.agreement.dataset(site.dataset).privacy
        count = attempts.get(site.party, 0)
        steps = {(site.noise_multiplier, site.sampling_rate): count * run.manifest.local.steps}
        tally = Tally.build(steps if count else {}, [privacy.adjacency])
        rows.append(
            DatasetEpsilon(
                party=site.party,
                dataset=site.dataset,
                attempts=count,
                epsilon=decimal_up(bounded_epsilon(tally, privacy.delta)),
                delta=privacy.delta,
            )
        )
    return rows
