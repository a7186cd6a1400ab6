"""Generated requests, as every role, against the whole application: in full in `make soak`."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accord_server.registry.app import OPENAPI
from tests.server.registry import api_seeds
from tests.server.registry.api_cases import Crowd, Links, crowd, json_of
from tests.server.registry.stack import Stack

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PASS = 5_000  # requests, over all operations: each meets what the others left in the pass before


class Watch:
    """Every answer of the application: which operation it was, whether it succeeded."""

    def __init__(self, stack: Stack, operations: dict[tuple[str, str], Any]) -> None:
        self.succeeded: Counter[tuple[str, str]] = Counter()
        self.links = Links()
        self._operations = operations
        shapes = {re.sub(r"{\w+}", "[^/]+", path) for _, path in operations}
        self._paths = {shape: re.compile(shape) for shape in sorted(shapes)}
        self._templates = {
            (method, re.sub(r"{\w+}", "[^/]+", path)): path for method, path in operations
        }
        stack.http.event_hooks["response"].append(self.saw)

    def saw(self, response: httpx.Response) -> None:
        """Count an answer, and remember what it names."""
        path, method = response.request.url.path, response.request.method
        found = [
            template
            for (verb, shape), template in self._templates.items()
            if verb == method and self._paths[shape].fullmatch(path)
        ]
        if not response.is_success or not found:
            return
        template = min(found, key=lambda one: one.count("{"))
        self.succeeded[method, template] += 1
        response.read()
        self.links.learn(path, json_of(response))
        operation = self._operations[method, template]
        operation.validate_response(response)


def operations(stack: Stack) -> Iterator[APIOperation[Any, Any, Any, Any]]:
    document = stack.http.get(OPENAPI).json()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(found, Ok)
        yield found.ok()


@pytest.mark.soak(sample=120, full=20_000)
@pytest.mark.usefixtures("quick_passwords")
def test_no_request_of_any_role_breaks_the_registry(
    stack: Stack, tmp_path: Path, size: int, seed: int
) -> None:
    """No 5xx, nothing that the document does not say, and each operation succeeds at least once."""
    every = {(one.method.upper(), one.path): one for one in operations(stack)}
    watch = Watch(stack, every)
    for seeds in api_seeds.SEEDS:
        seeds(stack)
    api_seeds.provider(stack, tmp_path)
    people = crowd(stack)
    reads = sorted((path for method, path in every if method == "GET"), key=_parameters)
    for path in reads:  # lists first: they name what the others ask for
        for headers in people.headers.values():
            filled = _fill(path, watch.links)
            if filled is not None and stack.http.get(filled, headers=headers).is_success:
                break

    sent: Counter[int] = Counter()
    passes = max(2, size // PASS)
    examples = max(1, size // (len(every) * passes))
    for turn in range(passes):
        mode = GenerationMode.NEGATIVE if turn == passes - 1 else GenerationMode.POSITIVE
        for operation in every.values():
            _ask(operation, mode, examples, seed + turn, people, watch.links, sent)
    missing = sorted(every.keys() - watch.succeeded.keys())
    assert not missing, f"never succeeded; `api_seeds.py` can help: {missing}"
    assert sum(sent.values()) >= len(every) * passes * examples // 2
    assert sent[200] >= sum(sent.values()) // 5, sent


def _parameters(path: str) -> int:
    return path.count("{")


def _fill(template: str, links: Links) -> str | None:
    """A path with the newest ids that are there; None where there is none."""
    path = template
    for name in re.findall(r"{(\w+)}", template):
        if not (known := links.of(template, name)):
            return None
        path = path.replace(f"{{{name}}}", known[-1])
    return path


def _ask(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    examples: int,
    seed: int,
    people: Crowd,
    links: Links,
    sent: Counter[int],
) -> None:
    @seeded(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def ask(case: schemathesis.Case[Any], data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(people.headers)), label="who")
        _link(case, links, data)
        answer = _send(people.stack, case, people.headers[who])
        case.validate_response(answer, checks=CHECKS)
        sent[answer.status_code] += 1
        if answer.status_code == 401 and operation.path not in {"/v1/sessions", "/v1/passwords"}:
            people.restore()

    # Of some operations nothing can be wrong: then there is no such case.
    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        ask()


def _link(case: schemathesis.Case[Any], links: Links, data: st.DataObject) -> None:
    """Put ids that are there in the place of made-up ones, as a rule."""
    template = case.operation.path
    for given_, where in ((case.path_parameters, True), (case.query, False)):
        for name in list(given_ or {}):
            known = links.of(template if where else "", name)
            made_up = [""] * (len(known) // 3 + 1)
            if real := data.draw(st.sampled_from([*known, *made_up]), label=name):
                given_[name] = real
    if case.query:
        case.query.pop("wait", None)  # a long poll tells nothing more


def _send(stack: Stack, case: schemathesis.Case[Any], headers: dict[str, str]) -> Any:
    kept = {name: str(value) for name, value in (case.headers or {}).items()}
    request: dict[str, Any] = {"headers": kept | headers, "params": case.query or {}}
    if case.body is not NOT_SET:
        plain = case.media_type == "application/json"
        body = case.body
        if plain:
            body = json.dumps(body, default=lambda part: bytes(part).decode("latin-1"))
            request["headers"] |= {"Content-Type": "application/json"}
        request["content"] = body if isinstance(body, str | bytes) else str(body)
    stack.http.cookies.clear()
    return stack.http.request(case.method, case.formatted_path, **request)
