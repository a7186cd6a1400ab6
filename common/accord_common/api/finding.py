"""Find what a person named by the first digits of a hash, or by part of an id.

Not covered: whether it is what it says; whoever acts on it verifies the envelopes.
"""

from accord_common.agreement import Agreement
from accord_common.api.client import RegistryClient
from accord_common.api.schemas import AgreementView, RunView
from accord_common.errors import ConflictError, NotFoundError, UsageError, VerificationError

SHORTEST = 6  # digits of a hash that name it, where only one begins so


def find_agreement(client: RegistryClient, text: str) -> AgreementView:
    """Find an agreement by its hash, or the hash's first digits; `unknown-agreement`."""
    if len(text) == 64:
        return client.agreement(text)
    found = [view for view in client.agreements() if view.hash.startswith(text)]
    if len(found) != 1 or len(text) < SHORTEST:
        raise NotFoundError(
            "unknown-agreement",
            f"{len(found)} agreements have a hash that begins with {text!r}, one is needed",
            hint=f"Give at least {SHORTEST} digits, best all 64; agreement list shows them.",
        )
    return found[0]


def version_before(client: RegistryClient, agreement: Agreement) -> Agreement | None:
    """Fetch the version that an agreement replaces, by the hash that it names; None for a first.

    Raises:
        NotFoundError: the registry does not show it.
        VerificationError: `wrong-hash`.
    """
    if agreement.previous is None:
        return None
    view = client.agreement(agreement.previous)
    if view.envelope.hash != agreement.previous:
        raise VerificationError("wrong-hash", f"asked for {agreement.previous[:16]}")
    return Agreement.from_bytes(view.envelope.payload)


def agreement_to_sign(client: RegistryClient, whole_hash: str) -> AgreementView:
    """Fetch the agreement that a signature is asked for.

    Raises:
        UsageError: `hash-incomplete` for the first digits only: a registry could make an agreement
            whose hash begins alike, and nobody would have been shown it.
    """
    if len(whole_hash) != 64:
        raise UsageError(
            "hash-incomplete",
            f"a signature needs the whole hash of what is signed, 64 digits, not {len(whole_hash)}",
            hint="Take it from somebody who has read the agreement, not from a list.",
        )
    return client.agreement(whole_hash)


def find_run(client: RegistryClient, text: str) -> RunView:
    """Find a run by its id, or the id's first or last characters.

    Raises:
        NotFoundError: `unknown-run`.
        ConflictError: `ambiguous-run`.
    """
    if len(text) == 36:
        return client.run(text)
    found = [run for run in client.runs() if run.id.startswith(text) or run.id.endswith(text)]
    if len(found) > 1 and text:
        raise ConflictError("ambiguous-run", f"{len(found)} runs begin or end with {text!r}")
    if not found or not text:
        raise NotFoundError("unknown-run", f"no run {text!r}", hint="accord run list shows them.")
    return found[0]
