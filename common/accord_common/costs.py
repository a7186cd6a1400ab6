"""What a run has cost each of its datasets.

Epsilon follows from the manifest's public mechanism and the attempts that a site's node was, or may
have been, sent: an attempt is charged when it is sent, whatever comes of it. It is the run's own
cost; what a population has spent in all, and the cap, are the node's ledger's to say. A run
without privacy costs infinity, which a record holds as null (`privacy.words`).
"""

from collections.abc import Mapping
from fractions import Fraction

from accord_common.chain import VerifiedRun
from accord_common.fields import Adjacency, Dec
from accord_common.manifest import RunManifest, Site
from accord_common.privacy.accounting import Tally, bounded_up
from accord_common.privacy.report import bounded_epsilon
from accord_common.receipts import DatasetEpsilon

# What the same attempts may come to elsewhere: a step of the last decimal, to which figures are
# rounded up, and what another release of the accountant may discretise otherwise. Attempts are
# counted exactly, so nobody hides one in it.
_LAST_DECIMAL = Fraction(1, 10**4)
_RELEASES = Fraction(1, 1000)  # of the figure


def spent(run: VerifiedRun, attempts: Mapping[str, int]) -> list[DatasetEpsilon]:
    """Epsilon of each site's dataset, in roster order, after `attempts[party]` attempts."""
    rows = []
    for site in run.manifest.roster:
        privacy = run.agreement.dataset(site.dataset).privacy
        count = attempts.get(site.party, 0)
        tally = attempts_tally(run.manifest, site, privacy.adjacency, count)
        epsilon = bounded_epsilon(tally, privacy.delta)
        rows.append(
            DatasetEpsilon(
                party=site.party,
                dataset=site.dataset,
                attempts=count,
                epsilon=bounded_up(epsilon),
                delta=privacy.delta,
            )
        )
    return rows


def attempts_tally(manifest: RunManifest, site: Site, adjacency: Adjacency, count: int) -> Tally:
    """What `count` attempts at a site release."""
    if manifest.privacy == "none":
        return Tally(adjacency, (), count)
    steps = {(site.noise_multiplier, site.sampling_rate): count * manifest.local.steps}
    return Tally.build(steps if count else {}, [adjacency])


def same_epsilon(told: Dec | None, computed: Dec | None) -> bool:
    """Whether two figures of the same attempts agree; null, infinity, with null alone."""
    if told is None or computed is None:
        return told == computed
    one, other = Fraction(told), Fraction(computed)
    return abs(one - other) <= _LAST_DECIMAL + _RELEASES * other
