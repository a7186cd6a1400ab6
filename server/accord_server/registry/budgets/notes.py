"""What one record's arrival shows, on its way into `findings`."""

from collections.abc import Sequence

from accord_common.sentences import Said
from accord_server.registry.budgets.tables import FindingRow
from accord_server.registry.tables import RecordRow

_LONGEST = 4000  # of a message, as of every `Text`


class Notes:
    """Collects the findings of one record, in order."""

    def __init__(self, row: RecordRow) -> None:
        self._row = row
        self.findings: list[FindingRow] = []

    def add(self, code: str, message: Said, records: Sequence[str], **about: str) -> None:
        """Note a finding.

        Args:
            code: which kind.
            message: in words, with the values that differ.
            records: hashes of what it follows from; the newest first.
            about: party, run, dataset, agreement, as far as it concerns one.
        """
        self.findings.append(
            FindingRow(
                sequence=self._row.sequence,
                place=len(self.findings),
                code=code,
                message=message[:_LONGEST],
                records=list(records),
                since=self._row.received,
                **about,
            )
        )
