"""Dockerfile, compose file and chart: hardened, of one mind, and their command lines exist.

No engine runs where these tests run: nothing is built or started from them here.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import chart, commands

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
PARTS = ("registry", "aggregator", "node")
USER = 10001
OWN = [COMPOSE["services"][name] for name in PARTS]


def stages() -> dict[str, dict[str, list[str]]]:
    """Instructions of each stage of the Dockerfile, in order."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "docker" / "Dockerfile").read_text(), flags=re.M)
    found: dict[str, dict[str, list[str]]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            found[name] = {"FROM": [parent]}
        elif word and found:
            found[list(found)[-1]].setdefault(word, []).append(rest.strip())
    return found


def in_shell(words: list[str]) -> list[list[str]]:
    """Accord's command lines in a command, also those inside `sh -c`."""
    line = words[2] if words[:2] == ["sh", "-c"] else shlex.join(words)
    return commands.in_line(line)


@pytest.mark.parametrize("part", PARTS)
def test_an_image_runs_as_a_number_and_its_commands_exist(part: str) -> None:
    found = stages()
    stage = found[part]
    assert stage["FROM"] == ["base"] and stage["USER"] == [f"{USER}:{USER}"]
    assert f"--uid {USER}" in found["base"]["RUN"][0]
    assert stage["VOLUME"] == ["/var/lib/accord"]
    for copied in stage["COPY"]:
        assert copied.split()[0].removeprefix("--from=") in found
    (install,) = found[f"install-{part}"]["RUN"]
    assert install.endswith(f"--for {part}")
    (entry,), (command,) = stage["ENTRYPOINT"], stage["CMD"]
    (check,) = stage["HEALTHCHECK"]
    checked = in_shell(json.loads(check.partition("CMD ")[2]))
    for words in (json.loads(entry) + json.loads(command), *checked):
        assert commands.wrong(words) == ""
    assert checked


def test_every_container_is_read_only_and_may_gain_nothing() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"] and "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert ("privileged" not in service and "network_mode" not in service) or name == "postgres"
        assert any(mount.startswith("/tmp:") for mount in service["tmpfs"]), name


def test_no_password_is_written_down_and_every_secret_is_a_file() -> None:
    for name, service in COMPOSE["services"].items():
        for key, value in service.get("environment", {}).items():
            secret = re.search("PASS|SECRET|TOKEN", key)
            assert not secret or str(value).startswith("/run/secrets/"), f"{name}: {key}"
        for secret in service.get("secrets", []):
            assert COMPOSE["secrets"][secret].keys() == {"file"}
    assert not (DEPLOY / "secrets").exists()


def test_what_compose_names_is_there() -> None:
    for name, service in COMPOSE["services"].items():
        assert set(service.get("networks", [])) <= COMPOSE["networks"].keys(), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source[0] in ".$" or source in COMPOSE["volumes"], name
            if source.startswith("./compose/"):
                assert yaml.safe_load((DEPLOY / source).read_text()), source
    for part, service in zip(PARTS, OWN, strict=True):
        assert f"accord-{part}:" in service["image"]
        inside = [port.rpartition(":")[2] for port in service.get("ports", [])]
        assert inside == stages()[part].get("EXPOSE", [])
        if "command" in service:
            (entry,) = stages()[part]["ENTRYPOINT"]
            assert commands.wrong(json.loads(entry) + service["command"]) == ""


def workloads(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == "StatefulSet"]


def test_the_chart_renders_two_services_and_a_node_on_request() -> None:
    plain = chart.render(chart.values())
    assert [w["metadata"]["name"] for w in workloads(plain)] == [
        "study-aggregator",
        "study-registry",
    ]
    whole = chart.render(chart.values(node={"enabled": True}, storageClass="fast"))
    assert len(workloads(whole)) == 3
    for workload in workloads(whole):
        claim = workload["spec"]["volumeClaimTemplates"][0]["spec"]
        assert claim["storageClassName"] == "fast"
    assert not [document for document in whole if document["kind"] == "Secret"]
    policies = [document for document in whole if document["kind"] == "NetworkPolicy"]
    selectors = [policy["spec"]["podSelector"]["matchLabels"] for policy in policies]
    assert {labels["app.kubernetes.io/component"] for labels in selectors} == set(PARTS)
    (node,) = (p for p in policies if p["metadata"]["name"] == "study-node")
    assert node["spec"]["ingress"] == []


def test_the_charts_pods_are_confined_and_their_commands_exist() -> None:
    for workload in workloads(chart.render(chart.values(node={"enabled": True}))):
        pod = workload["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert workload["spec"]["replicas"] == 1
        assert pod["automountServiceAccountToken"] is False
        assert (
            pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == USER
        )
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        given = {volume["name"] for volume in pod["volumes"]} | {"state"}
        assert mounts == given
        stage = stages()[container["name"]]
        ports = [str(port["containerPort"]) for port in container.get("ports", [])]
        assert ports == stage.get("EXPOSE", [])
        if "args" in container:
            assert commands.wrong(json.loads(stage["ENTRYPOINT"][0]) + container["args"]) == ""
        for probe in (container["readinessProbe"], container.get("livenessProbe", {})):
            for words in in_shell(probe.get("exec", {}).get("command", ["true"])):
                assert commands.wrong(words) == ""
