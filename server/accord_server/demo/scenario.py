"""What is demonstrated: whose tables, under which terms, by which plan.

Two of them: breast tumours, split over three hospitals that do not exist, from rows that come with
scikit-learn; and heart disease as four hospitals recorded it, from files that are fetched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from accord_server.demo import heart
from accord_server.demo.data import make_tables
from accord_server.demo.federation import Share


@dataclass(frozen=True, slots=True)
class Scenario:
    """A demonstration, all but its processes.

    Attributes:
        dataset: what every institution calls its table.
        shares: one for each institution.
        schema: YAML text that all of them agreed on.
        holdout: CSV text of rows that no institution trains on.
        terms: of the agreement, all but its datasets.
        plan: of the run, all but its agreement.
        tests: CSV text of each institution's part of the hold-out, where it has parts.
    """

    dataset: str
    shares: tuple[Share, ...]
    schema: str
    holdout: str
    terms: Mapping[str, Any]
    plan: Mapping[str, Any]
    tests: Mapping[str, str] = field(default_factory=dict)

    @property
    def cap(self) -> str:
        """Epsilon that the agreement allows each dataset."""
        return str(self.terms["privacy"]["epsilon_cap"])

    @property
    def delta(self) -> float:
        """The agreement's delta."""
        return float(self.terms["privacy"]["delta"])


def tumours(data_dir: Path) -> Scenario:
    """Three hospitals of unlike sizes; `data_dir` is not needed."""
    del data_dir
    sizes = {"Northgate": 200, "Riverside": 150, "Saint Luke": 100}  # public, so round
    tables = make_tables()
    return Scenario(
        dataset="tumours",
        shares=tuple(Share(site, text, sizes[site]) for site, text in tables.sites.items()),
        schema=tables.schema,
        holdout=tables.holdout,
        terms=_terms(
            title="Breast tumours, demonstration",
            legal_basis="public research data (Wisconsin Diagnostic Breast Cancer, CC BY 4.0)",
            objective="tell malignant from benign tumours",
            epsilon_cap="3",
            delta="0.00001",
            max_sampling_rate="0.5",
        ),
        plan=_plan(rounds=8, epsilon="2.4", sampling_rate="0.25", steps=4, learning_rate="0.5"),
    )


def heart_disease(data_dir: Path) -> Scenario:
    """Cleveland, Budapest, Switzerland and Long Beach; the hold-out is a third of each one's rows.

    The recipe is the benchmark's for private runs: FLamby's 15 rounds, a step each on all rows, for
    tables this small gain nothing from sampling.

    Args:
        data_dir: folder of public data sets.

    Raises:
        UsageError: `no-data-set`.
        VerificationError: `data-set-changed`.
    """
    import pandas as pd

    names = ("Cleveland", "Budapest", "Switzerland", "Long Beach")
    centres = dict(zip(names, heart.load(data_dir), strict=True))
    return Scenario(
        dataset="heart",
        shares=tuple(
            Share(name, centre.train.to_csv(index=False), _round_up(len(centre.train)))
            for name, centre in centres.items()
        ),
        schema=yaml.safe_dump(heart.document("heart", heart.columns(scaled=True))),
        holdout=pd.concat([centre.test for centre in centres.values()]).to_csv(index=False),
        terms=_terms(
            title="Heart disease, demonstration",
            legal_basis="public research data (UCI Heart Disease, CC BY 4.0)",
            objective="tell who has heart disease",
            epsilon_cap="4",
            delta="0.001",  # below one over each hospital's rows
            max_sampling_rate="1",
        ),
        plan=_plan(rounds=15, epsilon="3", sampling_rate="1", steps=1, learning_rate="1"),
        tests={name: centre.test.to_csv(index=False) for name, centre in centres.items()},
    )


SCENARIOS: dict[str, Callable[[Path], Scenario]] = {"tumours": tumours, "heart": heart_disease}


def _round_up(rows: int) -> int:
    """A public size tells little of the table's own: the next ten."""
    return -(-rows // 10) * 10


def _terms(
    *,
    title: str,
    legal_basis: str,
    objective: str,
    epsilon_cap: str,
    delta: str,
    max_sampling_rate: str,
) -> dict[str, Any]:
    return {
        "title": title,
        "purpose": ["DUO:0000007"],
        "legal_basis": legal_basis,
        "privacy": {
            "epsilon_cap": epsilon_cap,
            "delta": delta,
            "min_noise_multiplier": "1",
            "max_clipping_norm": "1",
            "max_sampling_rate": max_sampling_rate,
        },
        "tasks": [
            {
                "task": "tabular-binary",
                "objective": objective,
                "architectures": ["logistic-regression"],
                "max_rounds": 20,
            }
        ],
    }


def _plan(**figures: str | int) -> dict[str, Any]:
    return {
        "title": "First run",
        "task": "tabular-binary",
        "architecture": "logistic-regression",
        "spare_attempts": 2,
        "clipping_norm": "1",
        **figures,
    }
