"""Where a run stands, as its journal tells.

Guarantees: everything here follows from lines that are durable, so a restarted aggregator and one
that never stopped agree; an attempt number that may have been sent is never used again.
"""

from collections import Counter
from dataclasses import dataclass, field

from accord_common.envelope import Envelope
from accord_common.errors import FormatError
from accord_common.receipts import AggregatorReceipt
from accord_server.aggregator.journal import (
    Concluded,
    Ended,
    Journal,
    Line,
    Note,
    Opened,
    Unmasking,
)


@dataclass(slots=True)
class History:
    """A run's position.

    Attributes:
        head: record hash that the next receipt or the result names as predecessor.
        model: hash of the model that the current round starts from.
        round: the current round; also how many are completed.
        attempt: the first attempt number of this round that has not been used.
        opened: attempts opened in the whole run.
        charged: party -> attempts whose train message it was, or may have been, sent.
        checkpoint: what the last completed round left; None in round 0.
        unfinished: an attempt that was opened and has not ended.
        unmasking: it may have been asked to be unmasked.
        result: the signed result, once there is one.
    """

    head: str
    model: str
    round: int = 0
    attempt: int = 0
    opened: int = 0
    charged: Counter[str] = field(default_factory=Counter)
    checkpoint: str | None = None
    unfinished: Opened | None = None
    unmasking: Unmasking | None = None
    result: Envelope | None = None

    @classmethod
    def replay(cls, journal: Journal, *, manifest_hash: str, initial_model: str) -> "History":
        """Read a journal; `journal-damaged` where its lines do not fit together."""
        history = cls(manifest_hash, initial_model)
        for entry, _ in journal.read():
            history.take(entry)
        return history

    def take(self, entry: Line) -> None:
        """Move on by one line."""
        match entry:
            case Opened():
                if self.unfinished is not None or (entry.round, entry.attempt) != (
                    self.round,
                    self.attempt,
                ):
                    raise _unfit(f"round {entry.round} attempt {entry.attempt} opened out of turn")
                self.unfinished = entry
                self.attempt += 1
                self.opened += 1
                self.charged.update(entry.cohort)
            case Unmasking():
                opened = self.unfinished
                if opened is None or (entry.round, entry.attempt) != (opened.round, opened.attempt):
                    raise _unfit(
                        f"round {entry.round} attempt {entry.attempt} is unmasked unopened"
                    )
                self.unmasking = entry
            case Ended():
                self._end(AggregatorReceipt.from_bytes(entry.receipt.payload), entry)
            case Concluded():
                self.result = entry.result
            case Note():
                pass

    def _end(self, receipt: AggregatorReceipt, entry: Ended) -> None:
        opened = self.unfinished
        if opened is None or (receipt.round, receipt.attempt) != (opened.round, opened.attempt):
            raise _unfit(f"round {receipt.round} attempt {receipt.attempt} ends unopened")
        if receipt.previous != self.head or receipt.model_before != self.model:
            raise _unfit(f"the receipt of round {receipt.round} does not follow the one before")
        self.head = entry.receipt.hash
        self.unfinished = self.unmasking = None
        if receipt.model_after is not None:
            self.model, self.checkpoint = receipt.model_after, entry.checkpoint
            self.round, self.attempt = self.round + 1, 0


def _unfit(why: str) -> FormatError:
    return FormatError("journal-damaged", why)
