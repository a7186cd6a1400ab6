"""Render the chart without helm: the few constructs that its templates keep to, and no others.

`{{ .Values.a.b }}`, `{{ .Release.Name }}`, and `{{- if .Values.a }}` ... `{{- end }}` on lines of
their own. Anything else fails here, so what this accepts, helm renders alike.
"""

import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "helm" / "accord"
_VALUE = re.compile(r"\{\{ \.(Values\.[\w.]+|Release\.Name) \}\}")


def values(**changed: Any) -> dict[str, Any]:
    """The chart's own values, with whole sections updated."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "values.yaml").read_text())
    for name, part in changed.items():
        found[name] = found[name] | part if isinstance(part, dict) else part
    return found


def render(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Every document of every template, parsed."""
    documents: list[dict[str, Any]] = []
    for path in sorted((FOLDER / "templates").glob("*.yaml")):
        text = "\n".join(_chosen(path.read_text().splitlines(), given))
        text = _VALUE.sub(lambda match: str(_look_up(match[1], given)), text)
        assert "{{" not in text, f"{path.name} has a construct that is not rendered here"
        documents += [document for document in yaml.safe_load_all(text) if document]
    return documents


def _chosen(lines: list[str], given: dict[str, Any]) -> list[str]:
    kept, holds = [], [True]
    for line in lines:
        if match := re.fullmatch(r"\{\{- if \.(Values\.[\w.]+) \}\}", line):
            holds.append(holds[-1] and bool(_look_up(match[1], given)))
        elif line == "{{- end }}":
            holds.pop()
        elif holds[-1]:
            kept.append(line)
    assert holds == [True]
    return kept


def _look_up(path: str, given: dict[str, Any]) -> Any:
    if path == "Release.Name":
        return "study"
    found: Any = given
    for part in path.split(".")[1:]:
        found = found[part]
    return found
