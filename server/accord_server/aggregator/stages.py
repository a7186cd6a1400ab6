"""One request to several nodes and what becomes of each: the shape of every stage of a round.

Guarantees: a stage ends as soon as nobody is left to wait for, at the latest by its deadlines; what
is wrong with an answer concerns its sender alone; a stage that returns has at least `need` answers.

A node whose connection ends in mid-stage is lost. Where the stage has enough without it, nobody
waits; where it has not, and the node can repeat what it said before it died (`again`), it is asked
once more when it is back. Such a stage waits as long for a node that is here and late.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from accord_common import wire
from accord_common.errors import AccordError
from accord_server.aggregator.members import SUSPENDED, Members
from accord_server.aggregator.transport import Event, Incoming, Joined, Lost, Outgoing

# Lost, and no refusal: a node that restarted, and one that lacks the registry, come again.
LOST_KEY = frozenset({"no-mask-key", SUSPENDED})
SLOW_S = 30.0  # a stage that takes longer says whose answer it lacks


class Short(Exception):
    """Too few answers: who is missing, and why."""

    def __init__(self, lost: dict[str, str]) -> None:
        super().__init__(str(lost))
        self.lost = lost


@dataclass(slots=True)
class Stage:
    """See the module.

    Args:
        members: the roster.
        what: what is asked for, in words.
        need: fewest answers that will do.
        seconds: how long a node may take.
        take: takes a reply that is no refusal; AccordError for a bad one.
        aside: is told every event, whether or not the stage waits for its party.
        again: makes the message anew for a node that is back; None where it cannot repeat itself.
        rejoin_s: how long such nodes are waited for where too few are left.
        answered: parties that have answered.
        lost: party -> why there is no answer.
    """

    members: Members
    what: str
    need: int
    seconds: float
    take: Callable[[str, wire.Reply, Sequence[bytes]], None]
    aside: Callable[[Event], None] = lambda event: None
    again: Callable[[str], Outgoing] | None = None
    rejoin_s: float = 0.0
    answered: set[str] = field(default_factory=set)
    lost: dict[str, str] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)
    _gone: set[str] = field(default_factory=set)

    def ask(self, messages: Sequence[Outgoing]) -> None:
        """Send the request."""
        until = self.members.clock() + self.seconds
        self._due |= {message.party: until for message in messages}
        self.members.transport.send(messages)

    def wait(self) -> None:
        """Wait for the answers.

        Raises:
            Short: fewer than `need` answers are left to hope for.
        """
        began = self.members.clock()
        rejoin_until, slow_at = began + self.rejoin_s, began + SLOW_S
        while self._due or (self._gone and len(self.answered) < self.need):
            if len(self.answered) + len(self._due) + len(self._gone) < self.need:
                break
            until = min(self._due.values(), default=rejoin_until)
            slow = self.members.clock() >= slow_at
            if slow or not self._due:
                self.members.waits_for(self._due.keys() | self._gone)
            event = self.members.receive(until if slow else min(until, slow_at))
            if event is not None:
                self.aside(event)
                self._take(event)
            elif self.members.clock() >= until and not self._end_late(rejoin_until):
                break
        self.members.waits_for(())
        if len(self.answered) < self.need:
            raise Short(self.lost)

    @property
    def waiting(self) -> dict[str, float]:
        """Parties that may still work on the request, and until when."""
        return dict(self._due)

    def _end_late(self, rejoin_until: float) -> bool:
        """Give up those that are late; False where none is: the wait for lost ones has ended."""
        now = self.members.clock()
        late = [party for party, until in self._due.items() if until <= now]
        left = len(self.answered) + len(self._due) + len(self._gone) - len(late)
        if self.again is not None and left < self.need and now < rejoin_until:
            self._due |= dict.fromkeys(late, rejoin_until)
            return True
        for party in late:
            self._lose(party, f"no {self.what} within {self.seconds:g} s")
        return bool(late)

    def _take(self, event: Event) -> None:
        match event:
            case Joined(party) if party in self._gone:
                self._gone.discard(party)
                del self.lost[party]
                assert self.again is not None
                self.ask([self.again(party)])
            case Lost(party, reason) if party in self._due:
                self._lose(party, reason)
                if self.again is not None:
                    self._gone.add(party)
            case Incoming(party, header, chunks) if party in self._due:
                self._answer(party, header, chunks)

    def _answer(self, party: str, header: bytes, chunks: Sequence[bytes]) -> None:
        try:
            reply = wire.decode_reply(header)
            if isinstance(reply, wire.Refusal):
                if reply.code not in LOST_KEY:
                    self.members.refuse(party, reply.code, reply.message)
                self._lose(party, f"{reply.message} [{reply.code}]")
                return
            self.take(party, reply, chunks)
        except AccordError as error:
            self.members.refuse(party, error.code, error.message)
            self._lose(party, f"{error.message} [{error.code}]")
            return
        del self._due[party]
        self.answered.add(party)

    def _lose(self, party: str, reason: str) -> None:
        del self._due[party]
        self.lost[party] = reason
