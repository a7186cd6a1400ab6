"""What ends by a date: certificates, authorities, delegations. Told of in time, and not too often.

Guarantees: from `WARN_DAYS` before its end on, each is told of once a day, with the command that
renews it; whoever looks brings the time.

Not covered: refusing what is over, which is done where it is used.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from accord_common.authorities import read_bundle
from accord_common.enrolment import Delegation
from accord_common.errors import AccordError
from accord_common.fields import format_time, parse_time
from accord_common.sentences import Sentence, say

WARN_DAYS = 30
_TELL_EVERY = timedelta(days=1)
ROTATE_CA = "accord ca rotate, by whoever keeps the certificate authority"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that ends.

    Attributes:
        what: for people.
        until: its end.
        renew: the command that renews it, and whose it is where it is not the reader's.
    """

    what: str
    until: datetime
    renew: str

    def trouble(self, moment: datetime) -> str | None:
        """What to tell a person at `moment`; None while the end is far."""
        left = self.until - moment
        if left >= timedelta(days=WARN_DAYS):
            return None
        end = format_time(self.until)
        if left <= timedelta():
            return f"{self.what} ended at {end}"
        return f"{self.what} ends in {left.days} days, at {end}"


class Daily:
    """Looks at terms once a day, and logs those that end."""

    def __init__(self) -> None:
        self._next: datetime | None = None

    def due(self, moment: datetime) -> bool:
        """Whether a day has passed since this was last so."""
        if self._next is not None and moment < self._next:
            return False
        self._next = moment + _TELL_EVERY
        return True

    def look(self, terms: Callable[[], Iterable[Term]], moment: datetime) -> None:
        """Log what `terms` finds, if it is due."""
        if not self.due(moment):
            return
        try:
            found = list(terms())
        except (AccordError, OSError) as error:
            log.warning("expiry-not-known", detail=str(error))
            return
        for term in found:
            tell(term, moment)


def tell(term: Term, moment: datetime) -> None:
    """Log a term that ends within `WARN_DAYS`, or is over."""
    if (trouble := term.trouble(moment)) is None:
        return
    if term.until <= moment:
        log.error("expired", detail=trouble, renew=term.renew)
    else:
        log.warning("expires-soon", detail=trouble, renew=term.renew)


def of_delegation(delegation: Delegation, whose: str, renew: str) -> Term:
    """A delegation's term."""
    return Term(say(Sentence.DELEGATION, name=whose), parse_time(delegation.valid_until), renew)


def of_certificates(path: Path, what: Sentence, renew: str) -> list[Term]:
    """The terms of the certificates in a PEM file; of the first alone where it is a server's."""
    found = read_bundle(path.read_bytes())
    authorities = [one for one in found if one.issuer == one.subject]
    shown = authorities or found[:1]
    return [Term(say(what, path=path), one.not_valid_after_utc, renew) for one in shown]
