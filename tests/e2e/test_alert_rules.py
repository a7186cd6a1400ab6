"""Syntax and thresholds of the alert rules, by Prometheus' own tool (Debian: prometheus)."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.monitoring import MONITORING

THRESHOLDS = Path(__file__).parent / "alerts" / "thresholds.yaml"


@pytest.mark.soak(sample=0, full=1)
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", MONITORING / "alerts.yaml"),
        ("check", "config", MONITORING / "prometheus.yaml"),
        ("test", "rules", THRESHOLDS),
    ],
    ids=str,
)
def test_promtool_agrees(arguments: tuple[str | Path, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
