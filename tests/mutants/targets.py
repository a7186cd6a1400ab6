"""What `make mutants` changes, and the tests that must notice."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """Source files, and tests that run against each of their mutants.

    Attributes:
        deselect: parts of the names of tests that start processes: those import the original.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    deselect: tuple[str, ...] = ()


_TRAINING = "client/accord_client/training"
_PRIVACY = "common/accord_common/privacy"

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
            "client/accord_client/ledger.py",
            "client/accord_client/ledger_rows.py",
            "client/accord_client/ledger_store.py",
        ),
        ("tests/client/test_ledger.py",),
        ("survives_kill", "two_processes"),
    ),
    "accounting": Target(
        (
            f"{_PRIVACY}/accounting.py",
            f"{_PRIVACY}/calibration.py",
            f"{_PRIVACY}/events.py",
            f"{_PRIVACY}/filter.py",
            f"{_PRIVACY}/replacement.py",
            f"{_PRIVACY}/report.py",
        ),
        ("tests/common/privacy",),
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
    ),
}
