"""`accord registry` as people run it: processes, exit codes, one line on stdout."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from accord_common.api.client import RegistryClient
from accord_common.joining import parse_invitation
from accord_server.registry.settings import load

SCRIPT = [sys.executable, "-c", "from accord_server.cli import main; main()"]


def accord(*arguments: str) -> tuple[int, Any]:
    """Run `accord` to its end; return exit code and the JSON it wrote."""
    done = subprocess.run(
        [*SCRIPT, *arguments, "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=60,
    )
    text = done.stdout or done.stderr.strip().splitlines()[-1]
    return done.returncode, json.loads(text)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def initialise(home: Path, certificates: Path) -> tuple[int, Any]:
    files = {"--cert": "server.pem", "--key": "server.key", "--ca": "ca.pem"}
    options = [part for name, file in files.items() for part in (name, str(certificates / file))]
    return accord("registry", "init", "--home", str(home), "--port", "0", *options)


def test_from_init_to_a_clean_stop(tmp_path: Path, certificates: Path) -> None:
    home = tmp_path / "registry"
    code, made = initialise(home, certificates)
    assert code == 0
    told = parse_invitation(made["invitation"])
    assert (told.role, told.url, told.ca) == ("coordinator", made["url"], made["ca"])
    code, again = initialise(home, certificates)  # nobody has joined: a new invitation
    assert code == 0 and again["url"] == made["url"] and again["invitation"] != made["invitation"]
    assert accord("registry", "status", "--home", str(home))[0] == 4

    start = [*SCRIPT, "registry", "start", "--home", str(home), "--format", "json"]
    with subprocess.Popen(
        start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert (line["status"], line["url"]) == ("listening", made["url"])
        with RegistryClient(made["url"], (certificates / "ca.pem").read_bytes()) as client:
            client.ready()
            assert client.info().log_key == made["log_key"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    requests = [json.loads(text) for text in err.splitlines()]
    assert [item["path"] for item in requests] == ["/readyz", "/v1/info"]

    assert accord("registry", "rebuild", "--home", str(home)) == (0, {"records": 0})
    copy = shutil.copytree(home, tmp_path / "copy")
    assert (load(home).home, load(copy).home) == (home, copy)


def test_what_is_missing_is_named(tmp_path: Path, certificates: Path) -> None:
    code, told = accord("registry", "start", "--home", str(tmp_path / "nowhere"))
    assert (code, told["error"]["code"]) == (2, "no-registry")
    code, told = initialise(tmp_path / "registry", tmp_path)
    assert (code, told["error"]["code"]) == (2, "no-file")
