"""What is asked about a run that an agreement might allow, and the answer; as in `schemas`."""

from accord_common.api.schemas import AgreementStatus, Request, View
from accord_common.fields import Count, Dec, Id
from accord_common.manifest import RunManifest


class CheckRequest(Request):
    """A run that might be started; zeros stand for what only a real start has."""

    manifest: RunManifest


class Reason(View):
    """Why a run is not allowed."""

    code: str
    message: str
    hint: str


class Forecast(View):
    """What a run would cost one dataset, at its cap's delta.

    Attributes:
        label: `owner/name`.
        epsilon: of all attempts alone; null for a run without privacy, which costs infinity.
        spent: of earlier private runs, by the receipts that were seen.
        non_private: earlier releases without privacy.
        after: of both together.
        left: of the cap, before the run.
    """

    party: Id
    dataset: Id
    label: str
    epsilon: Dec | None
    spent: Dec
    non_private: Count
    after: Dec
    left: Dec
    cap: Dec
    delta: Dec


class CheckView(View):
    """Whether a run would be allowed: every reason why not, and what it would cost.

    `purpose` and `recipients` are the agreement's: what for, and who gets the model (party ids).
    """

    allowed: bool
    status: AgreementStatus
    reasons: list[Reason]
    datasets: list[Forecast]
    purpose: list[str]
    recipients: list[Id]
