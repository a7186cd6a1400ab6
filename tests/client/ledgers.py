"""What tests of the ledger share beside their fixtures (`conftest`)."""

from datetime import UTC, datetime

from accord_common.privacy.filter import Cap

WIDE = Cap(epsilon="1000", delta="0.00001")  # that no test's spends reach


def clock() -> datetime:
    """A node's clock that stands still."""
    return datetime(2026, 1, 31, 12, tzinfo=UTC)
