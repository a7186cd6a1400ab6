"""What a federation tells Prometheus, and what dashboards and alert rules ask of it.

PromQL is read as far as these files use it: names, matchers, functions and groupings. `promtool`,
which parses all of it, does so in `make soak`.
"""

import json
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from accord_server.demo.federation import Federation

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
WAIT_S = 60.0

_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|[A-Za-z_:][\w:]*|\d+(?:\.\d+)?(?:e\d+)?[smhd]?|[=!]~|[<>=!]=|\S'
)
_NAME = re.compile(r"[A-Za-z_:][\w:]*")
_FUNCTIONS = frozenset(
    {"time", "rate", "increase", "sum", "min_over_time", "histogram_quantile", "topk"}
)
_OPERATORS = frozenset({"and", "or", "unless"})
_GROUPINGS = frozenset({"by", "without", "on", "ignoring"})
_PROMETHEUS = {"job", "instance"}  # it adds them to every series
_SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


@dataclass(frozen=True)
class Selector:
    """A metric and what is asked of its labels."""

    metric: str
    matchers: Sequence[tuple[str, str, str]]


@dataclass
class Seen:
    """Samples by name: labels, and with them `numbers`; `declared` is who has none yet, too."""

    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    numbers: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)

    def values(self, name: str, label: str) -> set[str]:
        """What a label has been."""
        return {labels[label] for labels in self.samples.get(name, [])}

    def take(self, text: str) -> None:
        """Add an exposition."""
        for family in text_string_to_metric_families(text):
            counted = f"{family.name}_total" if family.type == "counter" else family.name
            self.declared.add(counted)
            for sample in family.samples:
                at = dict(sample.labels)
                self.samples.setdefault(sample.name, []).append(at)
                self.numbers.setdefault(sample.name, []).append((at, sample.value))


def exposed(federation: Federation, run: str) -> Seen:
    """Ask everybody, once every node has told of a run that is under way."""
    until = time.monotonic() + WAIT_S
    while not all(f'run="{run}"' in text for text in _of_nodes(federation)):
        assert time.monotonic() < until, "a node does not tell of the run"
    seen = Seen({"up": [{"job": "accord-registry", "instance": "127.0.0.1:9464"}]})
    for text in [*_of_servers(federation), *_of_nodes(federation)]:
        seen.take(text)
    return seen


def wait_until_gone(federation: Federation, run: str) -> None:
    """Wait until the servers have no series of a run that is over."""
    until = time.monotonic() + WAIT_S
    while left := [text for text in _of_servers(federation) if f'run="{run}"' in text]:
        assert time.monotonic() < until, left


def expressions() -> Iterator[tuple[str, str, str]]:
    """Place, expression, and the text in which its labels are shown."""
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"], " ".join(rule["annotations"].values())
    for path in sorted(MONITORING.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"], target["legendFormat"]


def faults(expression: str, text: str, seen: Seen) -> Iterator[str]:
    """Say which names, labels and values nothing had."""
    selectors, grouped = read(expression)
    if not selectors:
        yield "asks for nothing"
    labels = set(_PROMETHEUS)
    for selector in selectors:
        found = seen.samples.get(selector.metric)
        if found is None and selector.metric == "accord_aggregator_refusals_total":
            found = [{"code": "other"}]  # nobody refused anything here
            assert selector.metric in seen.declared
        if not found:
            yield f"{selector.metric} was not exposed"
            continue
        labels |= found[0].keys()
        for name, operator, value in selector.matchers:
            if name not in found[0]:
                yield f"{selector.metric} has no label {name}"
            elif operator == "=" and value not in {one[name] for one in found}:
                yield f"{selector.metric} never had {name}={value!r}"
            elif "~" in operator:
                re.compile(value)
    for name in [*grouped, *_SHOWN.findall(text)]:
        if name not in labels:
            yield f"label {name} is not there"


def read(expression: str) -> tuple[list[Selector], list[str]]:
    """Selectors and grouping labels of an expression; ValueError where a word is unknown."""
    tokens = _TOKEN.findall(expression)
    selectors: list[Selector] = []
    grouped: list[str] = []
    at = 0
    while at < len(tokens):
        token, follows = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
        at += 1
        if not _NAME.fullmatch(token) or token in _OPERATORS:
            continue
        if token in _GROUPINGS:
            end = tokens.index(")", at)
            grouped += [name for name in tokens[at + 1 : end] if name != ","]
            at = end + 1
        elif token in _FUNCTIONS:
            if follows not in ("(", "by"):
                raise ValueError(f"{token} is not called in {expression}")
        elif follows == "(":
            raise ValueError(f"unknown function {token} in {expression}")
        elif follows == "{":
            end = tokens.index("}", at)
            inner = [word for word in tokens[at + 1 : end] if word != ","]
            matchers = [
                (name, operator, json.loads(value))
                for name, operator, value in zip(inner[::3], inner[1::3], inner[2::3], strict=True)
            ]
            selectors.append(Selector(token, matchers))
            at = end + 1
        else:
            selectors.append(Selector(token, ()))
    return selectors, grouped


def _of_servers(federation: Federation) -> Iterator[str]:
    for port in federation.metrics_ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_S) as answer:
            yield answer.read().decode()


def _of_nodes(federation: Federation) -> Iterator[str]:
    for node in federation.nodes:
        yield (node.home / "accord.prom").read_text()
