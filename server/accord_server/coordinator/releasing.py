"""Who may have a run's model: the agreement's word, before anything is fetched.

Guarantees: entitled are the recipients that the agreement names, and its coordinator and
aggregator, who make, score and continue models; anybody else is told so, and whom to ask. The
registry enforces the same with every blob.
"""

from accord_common.agreement import Agreement
from accord_common.chain import VerifiedRun
from accord_common.errors import PolicyError

_RUNS_IT = frozenset({"coordinator", "aggregator"})  # by role; the statement that is signed says so


def recipients(agreement: Agreement) -> list[str]:
    """Names of those to whom models go."""
    return [agreement.party(party).name for party in agreement.release.recipients]


def require_recipient(run: VerifiedRun, party: str | None) -> None:
    """Refuse a party to whom the model does not go: PolicyError `not-a-recipient`.

    Args:
        run: verified down to its agreement.
        party: who asks.
    """
    agreement = run.agreement
    known = {item.id: item for item in agreement.parties}
    if party in agreement.release.recipients:
        return
    if party in known and known[party].role in _RUNS_IT:
        return
    who = f"{known[party].name}, its {known[party].role}," if party in known else "this party"
    goes_to = ", ".join(recipients(agreement)) or "nobody beyond coordinator and aggregator"
    raise PolicyError(
        "not-a-recipient",
        f"by agreement {agreement.title!r} the model of run {run.manifest.id} goes to {goes_to}; "
        f"{who} is not among them",
        hint="Agree on `recipients` that name you (accord agreement amend). Where the model comes "
        "from and what it cost you may read: accord model lineage, accord model card.",
    )
