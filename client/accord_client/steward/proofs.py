"""Whether ledger and outbox hold: every signature and every link, walked again and again.

Guarantees: the files themselves are walked, from the first byte on; what fails is named.
"""

from dataclasses import dataclass

from accord_client import outbox
from accord_client.stores import open_stores
from accord_common.errors import AccordError
from accord_common.home import Home

PERIOD_S = 30.0


@dataclass(frozen=True, slots=True)
class Proof:
    """One file: how many lines or entries hold, or why not."""

    count: int = 0
    trouble: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Proofs:
    """Both files; None before they were walked."""

    ledger: Proof | None = None
    outbox: Proof | None = None

    @property
    def broken(self) -> bool:
        """Whether one of them does not hold."""
        return any(proof is not None and proof.trouble for proof in (self.ledger, self.outbox))


def walk(home: Home) -> Proofs:
    """Walk both."""
    with open_stores(home) as stores:
        try:
            stores.ledger.verify(stores.keys)
            ledger = Proof(stores.ledger.length)
        except AccordError as error:
            ledger = Proof(trouble=error.message, hint=error.hint)
        try:
            sent = Proof(outbox.verify(stores.outbox.path, stores.keys))
        except AccordError as error:
            sent = Proof(trouble=error.message, hint=error.hint)
    return Proofs(ledger, sent)
