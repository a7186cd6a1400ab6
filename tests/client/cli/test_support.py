"""A support bundle and the log of a node that trained and failed: helpful, and without a secret."""

import io
import json
import logging
import secrets as random
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from accord_client import logs
from accord_client.data.sql import SqlSource
from accord_client.datasets import Datasets
from accord_client.session import Session
from accord_client.support import collect
from accord_common.errors import DataError
from accord_common.home import Home
from accord_common.logs import LogFile
from accord_common.support import LAST_LINES, write
from tests.canaries import found_in, spellings, unpacked
from tests.client.cli.conftest import Run
from tests.client.institutions import (
    PASSPHRASE,
    Aggregator,
    Institutions,
    Refused,
    make_institutions,
    register,
)

_SECRET_VARIABLES = ("HTTPS_PROXY", "PGPASSWORD", "ACCORD_TOKEN", "DATABASE_URL")


@dataclass
class Planted:
    """A node with a secret in every private place, after a round and a failed one."""

    home: Home
    variables: dict[str, str]
    secrets: dict[str, list[str | bytes]]
    run: str = ""
    stderr: io.StringIO = field(default_factory=io.StringIO)


def canary(kind: str) -> str:
    return f"{kind}-{random.token_hex(8)}"


def plant(three: Institutions, monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Put a secret of each kind where it lies in life."""
    home = three.homes[three.parties[0]]
    datasets = Datasets.of(home.path)
    path = three.folder / "table-0.csv"
    columns, *table = path.read_text().splitlines()
    numbers = (f"{random.randbelow(40 * 10**9) / 10**9 + 5:.9f}" for _ in range(2 * len(table)))
    rows = [[next(numbers), next(numbers), line.rpartition(",")[2]] for line in table]
    path.write_text("\n".join([columns, *map(",".join, rows)]) + "\n")
    actor = three.actor(home.profile.party)
    own = register(home, three.world, actor, path, "ask")
    people = [canary("patient") for _ in range(3)]
    datasets.opt_outs(own).change(add=people)
    database = SqlSource.from_json(
        {
            "kind": "sql",
            "url": f"postgresql://{canary('reader')}@{canary('db')}.hospital.example/omop",
            "query": f"SELECT '{canary('query')}'",
            "password_variable": "PGPASSWORD",
            "password_file": f"/etc/{canary('passwords')}",
        }
    )
    other = own.model_copy(
        update={
            "id": own.population,
            "name": canary("cohort"),
            "source": database,
            "split": own.split.model_copy(update={"key": random.token_hex(32)}),
            "allowed": {canary("column"): canary("reason")},
        }
    )
    datasets.store(other)
    token = canary("token")
    (home.path / "token").write_text(token)
    values = {name: canary(name.lower()) for name in _SECRET_VARIABLES}
    values["HTTPS_PROXY"] = f"http://user:{values['HTTPS_PROXY']}@proxy.example:3128"
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    login = canary("login")
    profile = home.profile.model_copy(
        update={"registry_url": f"https://user:{login}@127.0.0.1:9", "contact": canary("contact")}
    )
    (home.path / "profile.json").write_bytes(profile.to_bytes())
    keys: list[str | bytes] = []
    for name in ("node.pem", "flower.pem"):
        lines = (home.path / name).read_text().splitlines()
        keys += [line for line in lines if "-" not in line and len(line) >= 32]
    for key in (actor.identity, actor.node):
        keys.append(key.derive(b"never written anywhere"))
    return Planted(
        Home.open(home.path),
        values,
        {
            "rows": [number for row in rows for number in row[:2]],
            "people": list(people),
            "split": [own.split.key, other.split.key, bytes.fromhex(own.split.key)],
            "database": [database.url, database.query, str(database.password_file)],
            "names": [other.name, *other.allowed, *other.allowed.values(), profile.contact],
            "token": [token],
            "login": [login],
            "environment": list(values.values()),
            "passphrase": [PASSPHRASE],
            "keys": keys,
            "sealed key": [(home.path / "identity.key").read_bytes()],
            "place": [str(three.folder)],
        },
    )


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """A round that was completed, and failures of every kind that quote what they saw."""
    three = make_institutions(tmp_path_factory.mktemp("planted"))
    with pytest.MonkeyPatch.context() as patch, logging_aside():
        found = plant(three, patch)
        with redirect_stderr(found.stderr):
            logs.configure(LogFile(found.home.path / logs.FILE), debug=True)
            train_and_fail(three, found, patch)
        patch.undo()
        for name, value in found.variables.items():
            patch.setenv(name, value)
        yield found


@contextmanager
def logging_aside() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    for handler in logging.root.handlers:
        handler.close()
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def train_and_fail(three: Institutions, planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[Callable[[str], Exception]] = [
        ValueError,
        OSError,
        lambda text: DataError("sql-refused", text),
    ]
    seen = [str(one) for kind in ("rows", "people", "database") for one in planted.secrets[kind]]
    manifest = three.manifest()
    aggregator = Aggregator.of(three, manifest)
    with ExitStack() as stack:
        opened = [stack.enter_context(three.open(party)) for party in three.parties]
        runs = {three.accept(stores, manifest) for stores in opened}
        (planted.run,) = runs
        sessions = {stores.party: Session(stores, planted.run) for stores in opened}
        aggregator.round(sessions, 0)
        for number, kind in enumerate(kinds):

            def explode(*_: object, kind: Callable[[str], Exception] = kind, **__: object) -> None:
                try:
                    raise KeyError(*seen)
                except KeyError as error:
                    raise kind(f"row 17 of {seen}") from error

            monkeypatch.setattr("accord_client.training.train.train_round", explode)
            with pytest.raises(Refused):
                aggregator.round(sessions, 1, number)


def parts(bundle: Path) -> dict[str, Any]:
    with zipfile.ZipFile(bundle) as archive:
        read = {name: archive.read(name).decode() for name in archive.namelist()}
    return {
        name: [json.loads(line) for line in text.splitlines()]
        if name.endswith("l")
        else json.loads(text)
        for name, text in read.items()
    }


def test_a_bundle_says_what_failed_and_where_and_no_secret(
    planted: Planted, accord_node: Run, tmp_path: Path
) -> None:
    file = tmp_path / "sent.zip"
    told = accord_node("support-bundle", file, "--yes", "--home", planted.home.path).json
    found = parts(file)
    assert [part["name"] for part in told["parts"]] == list(found)
    assert found_in(unpacked(file), planted.secrets) == set()
    (run,) = found["runs.json"]
    assert (run["id"], run["round"], run["refused_round"]) == (planted.run, 1, 1)
    assert run["refused_code"] == "sql-refused"
    assert found["ledger.json"]["entries"] == 4
    assert {one["name"] for one in found["checks.json"] if not one["ok"]} >= {"registry"}
    failures = [line["exception"] for line in found["log.jsonl"] if "exception" in line]
    assert [[one["type"] for one in chain] for chain in failures] == [
        ["ValueError", "KeyError"],
        ["OSError", "KeyError"],
    ]
    assert failures[0][0]["at"][0].startswith("accord_client/session.py:")
    assert file.stat().st_mode & 0o777 == 0o600


def test_no_log_holds_a_secret_at_any_level(planted: Planted) -> None:
    file = planted.home.path / logs.FILE
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert {"debug", "warning", "error"} <= {line["level"] for line in written}
    secrets = {kind: planted.secrets[kind] for kind in planted.secrets.keys() - {"place"}}
    assert found_in(file.read_bytes(), secrets) == set()  # its own folder a log may name
    assert found_in(planted.stderr.getvalue().encode(), secrets) == set()


def test_a_bundle_is_listed_before_anybody_is_asked(
    planted: Planted, accord_node: Run, tmp_path: Path
) -> None:
    file = tmp_path / "sent.zip"
    told = accord_node("support-bundle", file, "--home", planted.home.path, text=True)
    assert told.status == 2 and "not-confirmed" in told.err and not file.exists()
    for part in collect(planted.home):
        assert part.name in told.err and part.holds in told.err
    file.write_text("mine")
    assert (
        accord_node("support-bundle", file, "--yes", "--home", planted.home.path).code
        == "bundle-exists"
    )
    assert file.read_text() == "mine"


def test_the_same_parts_give_the_same_bytes(planted: Planted, tmp_path: Path) -> None:
    found = collect(planted.home)
    digests = {write(tmp_path / name, found) for name in ("a.zip", "b.zip")}
    assert len(digests) == 1


def test_a_log_line_that_was_tampered_with_leaves_no_word(planted: Planted) -> None:
    """Whoever can write the log, a task say, still chooses among Accord's own words alone."""
    secret = canary("word")
    with (planted.home.path / logs.FILE).open("a") as file:
        for line in (
            {"event": secret, "logger": "accord_client.node", "level": secret},
            {"event": "refused", "logger": secret, "code": secret, "run": secret},
            {"event": {"a": secret}, "round": secret, "exception": [{"type": secret}]},
            {"exception": [{"type": "OSError", "at": [f"accord_client/{secret}.py:1"]}]},
            {"exception": [{"type": "OSError", "at": ["accord_client/node.py:9999"]}]},
            [secret],
        ):
            file.write(json.dumps(line) + "\n")
        file.write(secret)
    (log,) = (part for part in collect(planted.home) if part.name == "log.jsonl")
    assert found_in(log.data, {"word": [secret]}) == set()
    last = [json.loads(line) for line in log.data.splitlines()[-5:]]
    assert last[1] == {"logger": "(other)", "event": "(other)", "code": "(other)"}
    assert [line["exception"][0].get("at") for line in last[3:]] == [[], []]
    assert len(log.data.splitlines()) <= LAST_LINES


def test_the_search_finds_what_is_there() -> None:
    """A search that finds nothing must be able to find."""
    secret = canary("found")
    for spelling in spellings(secret):
        assert found_in(b"x" + spelling + b"y", {"it": [secret]}) == {"it"}
    for before in ("", "a", "ab", "abc"):
        assert found_in(b64encode(f"{before}{secret} and more".encode()), {"it": [secret]})


def test_what_is_broken_does_not_keep_the_rest_from_leaving(planted: Planted) -> None:
    """The last of this file: it leaves the node without its ledger."""
    (planted.home.path / "ledger.db").write_bytes(b"no database")
    found = {
        part.name: json.loads(part.data)
        for part in collect(planted.home)
        if "jsonl" not in part.name
    }
    assert found["ledger.json"] == {"failed": "ledger-broken"}
    assert found["runs.json"][0]["id"] == planted.run
