"""R1 to R4 of one attempt: requests out, answers into the attempt's state machine, stage by stage.

Guarantees: a stage goes on without the nodes that it loses while enough remain, and raises `Short`
where they do not; who was lost, and why, is in `lost`; the model and everything else that nodes
share is encoded once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from accord_common import wire
from accord_common.bulk import Body
from accord_common.errors import ProtocolError
from accord_common.secagg.messages import cohort_hash
from accord_server.aggregator.folding import SpoiledSum
from accord_server.aggregator.following import Following
from accord_server.aggregator.members import Members, share
from accord_server.aggregator.secagg import Attempt
from accord_server.aggregator.stages import Short, Stage
from accord_server.aggregator.transport import Event, Outgoing

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=wire.Reply)


@dataclass(slots=True)
class Exchanges:
    """See the module.

    Attributes:
        lost: members of U1 whose vector is not, or will not be, in the sum, and why.
        busy: nodes that may still work on a request, and until when.
        folding_s: seconds spent on adding uploads.
    """

    members: Members
    attempt: Attempt
    lost: dict[str, str] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    folding_s: float = 0.0

    def share(self) -> None:
        """R1 in an exchange of its own: fix U1, and collect everybody's shares."""
        attempt = self.attempt
        header = wire.encode(share(attempt, attempt.close_cohort()))

        def take(party: str, reply: wire.Reply, chunks: Sequence[bytes]) -> None:
            attempt.share(party, _expect(wire.SharesReply, reply).envelope)

        stage = self._stage("shares", self.members.smallest(), take)
        self._ask(stage, "share", [Outgoing(party, header) for party in attempt.cohort])
        self._wait(stage)

    def update(self, model: Body, following: Following) -> None:
        """R2: everybody of U2 trains, masks and uploads; fixes U3. A spoiled sum is `Short` too."""
        attempt, members = self.attempt, self.members

        def take(party: str, reply: wire.Reply, chunks: Sequence[bytes]) -> None:
            update = _expect(wire.UpdateReply, reply)
            began = members.clock()
            try:
                attempt.fold(party, update.upload, chunks)
            except SpoiledSum as error:
                raise Short({party: str(error)}) from error
            self.folding_s += members.clock() - began
            following.answered(party, update.next)

        stage = self._stage("update", members.smallest(), take, aside=following.event)
        stage.seconds = members.run.manifest.deadlines.update_s
        bulk = model.split(wire.MODEL_CHUNK_BYTES)
        messages = [Outgoing(party, header, bulk) for party, header in self._train().items()]
        self._ask(stage, "update", messages)
        following.open(attempt.sharers)
        self._wait(stage)
        attempt.close_uploads()

    def confirm(self, following: Following, meanwhile: Callable[[], object] = lambda: None) -> None:
        """R3: everybody of U3 signs the lists; R1 of the next round rides along.

        Args:
            following: the next round.
            meanwhile: what is to be done while the nodes answer.
        """
        attempt = self.attempt
        riding = following.close(attempt.uploads)

        def message(party: str) -> Outgoing:
            rides = riding is not None and following.includes(party)
            header = wire.Confirm(
                manifest=attempt.manifest_hash,
                round=attempt.round,
                attempt=attempt.attempt,
                uploads=dict(attempt.uploads),
                next=riding if rides else None,
            )
            return Outgoing(party, wire.encode(header))

        def take(party: str, reply: wire.Reply, chunks: Sequence[bytes]) -> None:
            confirmed = _expect(wire.ConfirmationReply, reply)
            attempt.confirm(party, confirmed.envelope)
            following.shared(party, confirmed.shares)

        threshold = self.members.run.manifest.secagg.threshold
        stage = self._stage("confirmation", threshold, take, aside=following.event, again=message)
        self._ask(stage, "confirm", [message(party) for party in attempt.uploads])
        meanwhile()
        self._wait(stage)

    def unmask(self, following: Following) -> None:
        """R4: whoever is left of U3 releases the shares that undo what masks remain."""
        attempt = self.attempt
        header = wire.encode(
            wire.Unmask(
                manifest=attempt.manifest_hash,
                round=attempt.round,
                attempt=attempt.attempt,
                confirmations=attempt.close_confirmations(),
            )
        )

        def take(party: str, reply: wire.Reply, chunks: Sequence[bytes]) -> None:
            attempt.unmask(party, _expect(wire.UnmaskingReply, reply).envelope)

        threshold = self.members.run.manifest.secagg.threshold
        stage = self._stage(
            "shares of masks",
            threshold,
            take,
            aside=following.event,
            again=lambda party: Outgoing(party, header),
        )
        self._ask(stage, "unmask", [Outgoing(party, header) for party in attempt.uploads])
        self._wait(stage)

    def _train(self) -> dict[str, bytes]:
        """R2's request to each member of U2; only the sealed shares differ."""
        attempt = self.attempt
        cohort = cohort_hash(attempt.advertised[party] for party in attempt.cohort)
        requests = {
            party: wire.Train(
                manifest=attempt.manifest_hash,
                round=attempt.round,
                attempt=attempt.attempt,
                cohort=cohort,
                sharers=list(attempt.sharers),
                sealed=attempt.sealed_for(party),
                model=attempt.model,
            )
            for party in attempt.sharers
        }
        return {party: wire.encode(request) for party, request in requests.items()}

    def _stage(
        self,
        what: str,
        need: int,
        take: Callable[[str, wire.Reply, Sequence[bytes]], None],
        *,
        aside: Callable[[Event], None] = lambda event: None,
        again: Callable[[str], Outgoing] | None = None,
    ) -> Stage:
        deadlines = self.members.run.manifest.deadlines
        return Stage(
            self.members,
            what,
            need,
            deadlines.advertise_s,
            take,
            aside,
            again,
            deadlines.rejoin_s,
        )

    def _ask(self, stage: Stage, name: str, messages: Sequence[Outgoing]) -> None:
        self.members.progress.at(self.attempt.round, self.attempt.attempt, name)
        stage.ask(messages)
        place = {"round": self.attempt.round, "attempt": self.attempt.attempt}
        log.info("stage", stage=name, nodes=len(messages), **place)

    def _wait(self, stage: Stage) -> None:
        try:
            stage.wait()
        except Short as short:
            if stage.again is not None:  # they were waited for
                self.members.give_up(short.lost)
            short.lost = self.lost | stage.lost | short.lost
            raise
        finally:
            self.lost |= stage.lost
            self.busy |= stage.waiting


def _expect(kind: type[R], reply: wire.Reply) -> R:
    if not isinstance(reply, kind):
        raise ProtocolError("unexpected-message", f"answered {reply.type}")
    return reply
