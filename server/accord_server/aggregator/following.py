"""The next round in the making: its R0 and R1 ride on the messages of the round before.

Guarantees: U1 of the next attempt is fixed once, from nodes that are here; a node that comes or
comes back while this round trains is asked for its keys and takes part in the next one; whatever
does not work out here costs nothing but exchanges of their own (`Members.gather`).
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from accord_common import wire
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_server.aggregator.members import Members, advertise, share
from accord_server.aggregator.secagg import Attempt
from accord_server.aggregator.transport import Event, Incoming, Joined, Lost, Outgoing

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Following:
    """See the module.

    Args:
        members: the roster.
        attempt: attempt 0 of the next round, with nothing in it; None after the last round.
    """

    members: Members
    attempt: Attempt | None
    _asked: set[str] = field(default_factory=set)
    _shared: set[str] = field(default_factory=set)
    _closed: bool = False

    def open(self, busy: Collection[str]) -> None:
        """Ask everybody for keys who is here and not `busy` with this round."""
        if self.attempt is not None:
            self._ask(self.members.transport.connected() - set(busy))

    def answered(self, party: str, answer: Envelope | wire.Refusal | None) -> None:
        """Take what came with an update: keys, or that there will be none."""
        match answer:
            case wire.Refusal():
                self.members.refuse(party, answer.code, answer.message)
            case Envelope():
                self.advertised(party, answer)

    def advertised(self, party: str, envelope: Envelope) -> None:
        """Take keys for the next round; a bad advertisement leaves its node out."""
        if self.attempt is None or self._closed:
            return
        try:
            self.members.advertised(self.attempt, party, envelope)
        except AccordError as error:
            log.warning("bad-advertisement", party=party, code=error.code, why=error.message)

    def close(self, with_confirm: Collection[str]) -> wire.Share | None:
        """Fix U1; returns R1's request, which rides along to `with_confirm`, None where too few.

        Others of U1 get it by itself, at once.
        """
        self._settle()
        attempt, self._closed = self.attempt, True
        if attempt is None or len(attempt.advertised) < self.members.smallest():
            self.attempt = None
            return None
        request = share(attempt, attempt.close_cohort())
        alone = [party for party in attempt.cohort if party not in with_confirm]
        self._asked = set(alone)
        header = wire.encode(request)
        self.members.transport.send([Outgoing(party, header) for party in alone])
        return request

    def shared(self, party: str, envelope: Envelope | None) -> None:
        """Take what came with a confirmation."""
        if self.attempt is None or envelope is None:
            return
        try:
            self.attempt.share(party, envelope)
            self._shared.add(party)
        except AccordError as error:
            log.warning("bad-shares", party=party, code=error.code, why=error.message)

    def event(self, event: Event) -> None:
        """Learn who comes and goes, and take answers of nodes that this round does not wait for."""
        if self.attempt is None:
            return
        match event:
            case Joined(party):
                self._forget(party)
                if not self._closed:
                    self._ask({party})
            case Lost(party):
                self._forget(party)
            case Incoming(party, header) if party in self._asked:
                self._asked.discard(party)
                self._answer(party, header)

    def includes(self, party: str) -> bool:
        """Whether a party is in the next round's U1."""
        return self.attempt is not None and party in self.attempt.cohort

    def ready(self) -> Attempt | None:
        """Return the attempt if enough have shared their secrets, to train at once."""
        self._settle()
        attempt = self.attempt
        if attempt is None or len(self._shared) < self.members.smallest():
            return None
        return attempt

    def _settle(self) -> None:
        """Take what has come already."""
        while (event := self.members.receive(self.members.clock())) is not None:
            self.event(event)

    def _forget(self, party: str) -> None:
        """Drop what a node gave: its secrets may be gone with its connection."""
        assert self.attempt is not None
        self._asked.discard(party)
        self._shared.discard(party)
        if self._closed:
            self.attempt.retract(party)
        else:
            self.attempt.withdraw(party)

    def _ask(self, parties: Collection[str]) -> None:
        assert self.attempt is not None
        roster = [site.party for site in self.members.run.manifest.roster]
        free = [p for p in roster if p in parties and p not in self.members.refused]
        self._asked.update(free)
        header = wire.encode(advertise(self.attempt))
        self.members.transport.send([Outgoing(party, header) for party in free])

    def _answer(self, party: str, header: bytes) -> None:
        try:
            reply = wire.decode_reply(header)
        except AccordError as error:
            self.members.refuse(party, error.code, error.message)
            return
        match reply:
            case wire.AdvertisementReply():
                self.advertised(party, reply.envelope)
            case wire.SharesReply():
                self.shared(party, reply.envelope)
            case wire.Refusal():
                self.members.refuse(party, reply.code, reply.message)
            case _:
                self.members.refuse(party, "unexpected-message", f"sent {reply.type}")
