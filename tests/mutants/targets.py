"""What `make mutants` changes, and the tests that must notice."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Target:
    """Source files, and tests that run against each of their mutants; both as patterns.

    Attributes:
        deselect: parts of the names of tests that would take long and show nothing more: above all
            those that start processes, which import the original.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    deselect: tuple[str, ...] = ()

    def files(self) -> list[str]:
        """The sources, by path from the root."""
        return found(self.sources)


def found(patterns: tuple[str, ...]) -> list[str]:
    """Files that match, by path from the root."""
    return [
        str(path.relative_to(ROOT)) for pattern in patterns for path in sorted(ROOT.glob(pattern))
    ]


_TRAINING = "client/accord_client/training"
_PRIVACY = "common/accord_common/privacy"
_CHAIN = ("ledger_chain", "rules", "audit")

TARGETS = {
    "consent": Target(
        ("client/accord_client/consent.py", "common/accord_common/terms.py"),
        (
            "tests/client/test_consent.py",
            "tests/client/test_consent_stale.py",
            "tests/common/test_terms.py",
        ),
    ),
    "ledger": Target(
        (
            "client/accord_client/ledger*.py",
            *(f"{_PRIVACY}/{name}.py" for name in _CHAIN),
        ),
        (
            "tests/client/test_ledger.py",
            "tests/client/test_ledger_crash_wal.py",
            "tests/client/test_ledger_[rsw]*.py",
            "tests/client/test_formats.py",
            "tests/client/cli/test_budget.py",
            *(f"tests/common/privacy/test_{name}.py" for name in _CHAIN),
        ),
        ("survives_kill", "two_processes"),
    ),
    "accounting": Target(
        tuple(
            f"{_PRIVACY}/{name}.py"
            for name in ("accounting", "calibration", "events", "filter", "replacement", "report")
        ),
        ("tests/common/privacy/test_[!a]*.py", "tests/common/privacy/test_accounting.py"),
    ),
    "clipping": Target(
        (
            f"{_TRAINING}/step.py",
            f"{_TRAINING}/gradients.py",
            f"{_TRAINING}/bookkeeping.py",
            f"{_TRAINING}/rules.py",
            f"{_TRAINING}/patches.py",
            f"{_TRAINING}/recurrent.py",
            f"{_TRAINING}/train.py",
            f"{_TRAINING}/noise.py",
            "client/accord_client/data/sampling.py",
        ),
        ("tests/client/training", "tests/client/data/test_sampling.py"),
        ("leave_no_memory_behind", "learnt_privately"),  # hundreds of steps
    ),
}
