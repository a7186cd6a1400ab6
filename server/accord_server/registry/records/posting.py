"""A record on its way in: what every check of one works with."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.envelope import Envelope
from accord_common.errors import ConflictError, PolicyError, VerificationError
from accord_server.registry.records.lookup import RunCache, find


@dataclass(frozen=True, slots=True)
class Posting:
    """An envelope, who brings it, and when; `session` is inside the transaction that appends it.

    `fence` is that of the lease under which an aggregator's process brings it, if it says so.
    """

    session: AsyncSession
    runs: RunCache
    envelope: Envelope
    party: str
    role: str
    moment: datetime
    fence: int | None = None

    def require_signer(self, party: str) -> None:
        """Refuse a record that another party's token brings: PolicyError `not-the-signer`."""
        if self.party != party:
            raise PolicyError(
                "not-the-signer", f"a {self.envelope.kind} of {party} came with another's token"
            )

    def require_role(self, role: str) -> None:
        """Refuse a record that is not this role's to sign: PolicyError `wrong-role`."""
        if self.role != role:
            raise PolicyError(
                "wrong-role", f"only the {role} posts a {self.envelope.kind}, not a {self.role}"
            )

    async def require_head(
        self, named: str | None, head: str | None, kinds: frozenset[str], run: str | None
    ) -> None:
        """Refuse a record that does not follow the head of its chain.

        Args:
            named: the predecessor that the record names.
            head: the chain's newest record.
            kinds: the kinds of which the chain consists.
            run: the run to which they belong, if to one.

        Raises:
            VerificationError: `missing-predecessor`, `wrong-predecessor`.
            ConflictError: `forked-chain` where the predecessor has a successor already.
        """
        if named == head:
            return
        row = None if named is None else await find(self.session, named)
        if named is not None and row is None:
            raise VerificationError(
                "missing-predecessor",
                f"predecessor {named[:16]} is not stored here",
                hint="Post the records in order.",
            )
        if row is not None and (row.kind not in kinds or row.run != run):
            raise VerificationError(
                "wrong-predecessor",
                f"a {self.envelope.kind} cannot follow {row.hash[:16]}, a {row.kind}",
            )
        raise ConflictError(
            "forked-chain",
            f"the chain goes on from {head[:16] if head else 'its beginning'}, not from "
            f"{named[:16] if named else 'nothing'}",
            hint="Two processes may be signing with the same key; stop one of them.",
        )
