"""What the registry says waits here: agreements to sign, and runs that the daemon did not see yet.

Guarantees: the registry's word is shown as such, and nothing follows from it: an agreement is
listed only where its bytes name this institution with its own key, and whoever signs or approves
reads the record itself first, verified. Without the registry the node's own files still say the
rest.
"""

from dataclasses import dataclass

from accord_client.agreements import Agreements
from accord_common.api.schemas import AgreementView, RunView
from accord_common.errors import AccordError
from accord_common.fields import now
from accord_common.home import Home

PERIOD_S = 10.0
_OPEN = "proposed"


@dataclass(frozen=True, slots=True)
class Proposal:
    """An agreement without this institution's signature; `version` above 1 replaces another.

    `kept`: it was signed here, but the signature never reached the registry.
    """

    hash: str
    title: str
    version: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Offered:
    """A run without this institution's answer."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Board:
    """See the module; `drift_s` is this clock minus the registry's, None before it answered."""

    proposals: tuple[Proposal, ...] = ()
    runs: tuple[Offered, ...] = ()
    drift_s: float | None = None

    def lacks(self, agreement_hash: str) -> bool:
        """Whether the registry lacks a signature that was given here."""
        return any(one.kept and one.hash == agreement_hash for one in self.proposals)


def read_board(home: Home) -> Board:
    """Ask the registry.

    Raises:
        AccordError: the client's, such as TransportError and `not-enrolled`.
    """
    own = Agreements.of(home)
    signed = own.signed()
    with home.registry() as registry:
        drift_s = (now() - registry.moment()).total_seconds()
        views = [
            view
            for view in registry.agreements()
            if view.hash not in signed or own.party in view.missing
        ]
        waiting = [run for run in registry.runs("awaiting-consent") if _undecided(run, own.party)]
    return Board(
        proposals=tuple(
            Proposal(view.hash, view.agreement.title, view.agreement.version, view.hash in signed)
            for view in views
            if view.status == _OPEN and _names_us(own, view)
        ),
        runs=tuple(Offered(run.id, run.title) for run in waiting),
        drift_s=round(drift_s),
    )


def _names_us(own: Agreements, view: AgreementView) -> bool:
    try:
        own.read(view.envelope, view.hash)
    except AccordError:
        return False
    return True


def _undecided(run: RunView, party: str) -> bool:
    return any(site.party == party and site.decision is None for site in run.consents)
