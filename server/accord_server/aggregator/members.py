"""The roster as a round sees it: who is here, who is waited for, who will not take part.

Guarantees: what a node answers is decoded strictly, and whatever is wrong with it excludes that
node only; each wait ends by the manifest's deadlines; a stop is heeded meanwhile.

A node that is lost is waited for once, `rejoin_s`; after that it is left alone until it connects
again. A node that refuses, or answers wrongly, is left out until it connects again: asked once
more, it would refuse once more. A node that the registry shuts out (its key was revoked, its party
is suspended) is lost at once, and nothing it says is heard until the registry lets it in again.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import structlog

from accord_common import wire
from accord_common.chain import VerifiedRun
from accord_common.envelope import Envelope
from accord_common.errors import AccordError
from accord_server.aggregator.control import Control
from accord_server.aggregator.progress import Progress
from accord_server.aggregator.secagg import Attempt
from accord_server.aggregator.transport import (
    NOT_CONNECTED,
    Event,
    Incoming,
    Joined,
    Lost,
    Outgoing,
    Transport,
)

SUSPENDED = "registry-outage"  # a node that lacks the registry; it comes back by itself
TELL_S = 3.0  # nodes take a moment to connect, which is no news
POLL_S = 0.5  # how soon a stop is heeded; nodes' events end a wait at once

_BARRED = {
    "key-revoked": "its institution has revoked the key that this run names",
    "party-suspended": "the coordinator has suspended its institution",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a node is left out: its own word, or what was wrong with its answer."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


@dataclass(slots=True)
class Members:
    """One run's nodes.

    Attributes:
        refused: party -> why it will not take part.
        absent: party -> why it is not waited for any more.
        gone: party -> why it has no connection, as far as it is known.
        shown: is told each advertisement that verified; AccordError for a head that is none.
    """

    run: VerifiedRun
    transport: Transport
    control: Control
    clock: Callable[[], float]
    refused: dict[str, Refused] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    shown: Callable[[Envelope], None] = lambda envelope: None
    _barred: set[str] = field(default_factory=set)
    gone: dict[str, str] = field(default_factory=dict)

    def name(self, party: str) -> str:
        """The party's name in the agreement."""
        return self.run.agreement.party(party).name

    def reason(self, party: str) -> str:
        """Why a party did not take part, for people."""
        why = self.refused.get(party) or self.absent.get(party) or "gave no mask key"
        return f"{self.name(party)}: {why}"

    def receive(self, until: float) -> Event | None:
        """Return the next event, or None once the clock shows `until`; may raise as `Control`."""
        while True:
            self.control.check()
            left = max(0.0, until - self.clock())
            event = self._shut_out() or self.transport.receive(min(left, POLL_S))
            if event is None and self.clock() < until:
                continue
            if event is not None and event.party in self._barred and not isinstance(event, Lost):
                continue
            match event:
                case Joined(party):
                    self.refused.pop(party, None)
                    self.absent.pop(party, None)
                    self.gone.pop(party, None)
                    log.info("node-joined", party=party, name=self.name(party))
                case Lost(party, reason):
                    if reason != NOT_CONNECTED:
                        self.gone[party] = reason
                    log.warning("node-lost", party=party, name=self.name(party), reason=reason)
                case Incoming(party):
                    self.absent.pop(party, None)
            return event

    def _shut_out(self) -> Lost | None:
        """Lose a party that the registry has shut out since the last look."""
        barred = self.control.barred
        for party in self._barred - barred.keys():  # a copy
            self._barred.discard(party)
            self.refused.pop(party, None)
        for party, code in barred.items():
            if party not in self._barred:
                self._barred.add(party)
                self.refuse(party, code, _BARRED.get(code, "the registry shuts it out"))
                return Lost(party, code)
        return None

    def refuse(self, party: str, code: str, message: str) -> None:
        """Leave a node out until it connects again."""
        self.refused[party] = Refused(code, message)
        self.progress.refused(code)
        log.warning("node-refused", party=party, name=self.name(party), code=code, why=message)

    def refusals(self) -> dict[str, str]:
        """Party -> code, of all who are left out now."""
        return {party: refused.code for party, refused in self.refused.items()}

    def give_up(self, lost: Mapping[str, str]) -> None:
        """Wait no more for nodes that were waited for in vain, until they connect again."""
        self.absent |= {party: why for party, why in lost.items() if party not in self.refused}

    def gather(self, attempt: Attempt, busy: Mapping[str, float]) -> None:
        """Collect keys for an attempt from everybody who may come (R0).

        Args:
            attempt: takes the advertisements; its cohort is still open.
            busy: party -> clock time until which it may still work for another attempt.
        """
        self.progress.at(attempt.round, attempt.attempt, "advertise")
        _Gathering(self, attempt, busy).run()

    def advertised(self, attempt: Attempt, party: str, envelope: Envelope) -> None:
        """Take a node's keys for an attempt, and the head of the log that it shows with them.

        Raises:
            AccordError: as `Attempt.advertise`, or `wrong-head`: nothing was taken.
        """
        attempt.advertise(party, envelope)
        try:
            self.shown(envelope)
        except AccordError:
            attempt.withdraw(party)
            raise

    def waits_for(self, parties: Collection[str]) -> None:
        """Let those who watch know for whom the run waits now; for nobody in particular: ()."""
        here = self.transport.connected()
        words = [
            self.name(party) + ("" if party in here else " (not connected)")
            for party in sorted(parties, key=self.name)
        ]
        self.control.waits(", ".join(words) or None)

    def smallest(self) -> int:
        """Fewest nodes whose sum may be formed."""
        return self.run.manifest.smallest_cohort


@dataclass(slots=True)
class _Gathering:
    """One call of `Members.gather`; `due` maps those still waited for to when that ends.

    `said` is why those who come back by themselves could not answer.
    """

    members: Members
    attempt: Attempt
    busy: Mapping[str, float]
    due: dict[str, float] = field(default_factory=dict)
    rejoin_until: float = 0.0
    tell_at: float = 0.0
    said: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        members = self.members
        while members.receive(members.clock()) is not None:
            pass  # what came before anybody was asked: who is here says `connected`
        now = members.clock()
        deadlines = members.run.manifest.deadlines
        self.rejoin_until, self.tell_at = now + deadlines.rejoin_s, now + TELL_S
        connected = members.transport.connected()
        asked = []
        for site in members.run.manifest.roster:
            party = site.party
            if party in members.refused or party in members.absent:
                continue
            if party not in connected:
                self.due[party] = self.rejoin_until
            else:
                asked.append(party)
                self.due[party] = max(now, self.busy.get(party, now)) + deadlines.advertise_s
        self._ask(asked)
        while self.due and self._possible():
            self._wait()
            if members.clock() >= self.tell_at:
                members.waits_for(self.due)
        members.waits_for(())

    def _possible(self) -> bool:
        members = self.members
        return members.run.manifest.n - len(members.refused) >= members.smallest()

    def _untold(self) -> bool:
        return self.members.clock() < self.tell_at

    def _wait(self) -> None:
        members = self.members
        until = min(self.due.values())
        event = members.receive(min(until, self.tell_at) if self._untold() else until)
        now = members.clock()
        match event:
            case None:
                for party in [party for party, end in self.due.items() if end <= now]:
                    del self.due[party]
                    here = party in members.transport.connected()
                    gone = members.gone.get(party)
                    away = f"{NOT_CONNECTED}: {gone}" if gone else NOT_CONNECTED
                    reason = "gives no answer" if here else away
                    members.absent[party] = self.said.get(party, reason)
            case Joined(party):
                self.attempt.withdraw(party)
                self.said.pop(party, None)
                advertise_s = members.run.manifest.deadlines.advertise_s
                self.due[party] = min(now, self.rejoin_until) + advertise_s
                self._ask([party])
            case Lost(party):
                self.attempt.withdraw(party)
                if party not in members.absent and party not in members.refused:
                    self.due[party] = self.rejoin_until
            case Incoming(party, header) if party in self.due:
                del self.due[party]
                self._answer(party, header)

    def _answer(self, party: str, header: bytes) -> None:
        try:
            reply = wire.decode_reply(header)
        except AccordError as error:
            self.members.refuse(party, error.code, error.message)
            return
        match reply:
            case wire.AdvertisementReply():
                self._take(party, reply.envelope)
            case wire.Refusal(code=code) if code == SUSPENDED:
                # It connects again once it hears the registry.
                self.due[party] = self.rejoin_until
                self.said[party] = str(Refused(code, reply.message))
            case wire.Refusal():
                self.members.refuse(party, reply.code, reply.message)
            case _:
                self.members.refuse(party, "unexpected-message", f"sent {reply.type}")

    def _take(self, party: str, envelope: Envelope) -> None:
        try:
            self.members.advertised(self.attempt, party, envelope)
        except AccordError as error:
            self.members.refuse(party, error.code, error.message)

    def _ask(self, parties: list[str]) -> None:
        header = wire.encode(advertise(self.attempt))
        self.members.transport.send([Outgoing(party, header) for party in parties])


def advertise(attempt: Attempt) -> wire.Advertise:
    """R0's request."""
    return wire.Advertise(
        manifest=attempt.manifest_hash, round=attempt.round, attempt=attempt.attempt
    )


def share(attempt: Attempt, cohort: list[Envelope]) -> wire.Share:
    """R1's request, U1 fixed."""
    return wire.Share(
        manifest=attempt.manifest_hash, round=attempt.round, attempt=attempt.attempt, cohort=cohort
    )
