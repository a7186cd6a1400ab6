"""A run's signed records in the making: every attempt ends in one receipt, every run in one result.

Guarantees: a record names the one before; it is signed with the run's receipt key, and is on disk
before anybody can see it. What is written and what `history` says never differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accord_common.api.schemas import Level
from accord_common.chain import VerifiedRun
from accord_common.envelope import Envelope, sign
from accord_common.fields import format_time, now
from accord_common.identity import SigningKey
from accord_common.receipts import AGGREGATOR_RECEIPT, RESULT, AggregatorReceipt
from accord_server.aggregator.conclusion import conclude, plain
from accord_server.aggregator.control import Ending
from accord_server.aggregator.history import History
from accord_server.aggregator.journal import Concluded, Ended, Journal, Note, Opened, Unmasking


@dataclass(frozen=True, slots=True)
class Completion:
    """What a completed round leaves: hashes of the integer sum, the new model, its checkpoint."""

    sum: str
    model: str
    checkpoint: str


class Chronicle:
    """Writes one run's journal and keeps `history` in step."""

    def __init__(self, run: VerifiedRun, key: SigningKey, journal: Journal) -> None:
        self._run = run
        self._key = key
        self._journal = journal
        self.history = History.replay(
            journal, manifest_hash=run.manifest_hash, initial_model=run.manifest.initial_model
        )

    def open(self, cohort: Sequence[str]) -> None:
        """Use up the next attempt's number and charge its cohort, before anything is sent."""
        history = self.history
        self._write(Opened(round=history.round, attempt=history.attempt, cohort=list(cohort)))

    def unmask(self, spooled: str) -> None:
        """Say, before any node is asked, that this round is unmasked in the open attempt."""
        opened = self.history.unfinished
        assert opened is not None
        self._write(Unmasking(round=opened.round, attempt=opened.attempt, sum=spooled))

    def complete(
        self,
        uploads: Mapping[str, str],
        lost: Sequence[str],
        refused: Mapping[str, str],
        completion: Completion,
    ) -> None:
        """End the open attempt: the sum of `uploads` has moved the model.

        Args:
            uploads: U3, the cohort whose sum it is: party -> upload hash.
            lost: who was in U1 and is not in the sum.
            refused: who takes no part any more: party -> code.
            completion: what the round leaves.
        """
        self._end(uploads, lost, refused, completion)

    def abort(
        self, uploads: Mapping[str, str], lost: Sequence[str], refused: Mapping[str, str]
    ) -> None:
        """End the open attempt without a sum. Where none is open, there is nothing to do."""
        if self.history.unfinished is not None:
            self._end(uploads, lost, refused, None)

    def conclude(self, ending: Ending, refused: Mapping[str, str]) -> Envelope:
        """Sign the run's result."""
        result = sign(RESULT, conclude(self._run, self.history, ending, refused), self._key)
        self._write(Concluded(result=result))
        return result

    def note(self, level: Level, message: str) -> None:
        """Tell those who watch the run."""
        self._journal.append(Note(level=level, message=plain(message)))

    def _end(
        self,
        uploads: Mapping[str, str],
        lost: Sequence[str],
        refused: Mapping[str, str],
        completion: Completion | None,
    ) -> None:
        opened = self.history.unfinished
        assert opened is not None
        in_sum = uploads if completion else {}  # they may refuse what comes next
        receipt = AggregatorReceipt(
            previous=self.history.head,
            manifest=self._run.manifest_hash,
            round=opened.round,
            attempt=opened.attempt,
            outcome="aborted" if completion is None else "completed",
            cohort=[p for p in opened.cohort if completion is None or p in uploads],
            lost=list(lost),
            refused={party: code for party, code in refused.items() if party not in in_sum},
            uploads=[uploads[party] for party in opened.cohort if party in uploads],
            sum=completion.sum if completion else None,
            model_before=self.history.model,
            model_after=completion.model if completion else None,
            created=format_time(now()),
        )
        envelope = sign(AGGREGATOR_RECEIPT, receipt, self._key)
        checkpoint = completion.checkpoint if completion else None
        self._write(Ended(receipt=envelope, checkpoint=checkpoint))

    def _write(self, entry: Opened | Unmasking | Ended | Concluded) -> None:
        self._journal.append(entry)
        self.history.take(entry)
