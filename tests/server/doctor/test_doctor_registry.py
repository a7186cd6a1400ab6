"""Planted faults of a registry's folder, row by row."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from accord_common.fields import now
from accord_server.certificates import issue
from accord_server.registry import doctor as registry
from accord_server.registry.settings import Settings
from tests.proxies import HOST
from tests.server.cli.office import accord
from tests.server.doctor.conftest import Place
from tests.server.registry.stack import free_port, settings_in


def spoiled(place: Place, tmp_path: Path) -> Settings:
    """A copy of the registry's folder and files that a row may spoil; the address stays."""
    for name in ("server.pem", "server.key", "ca.pem"):
        shutil.copy(place.folder / name, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    shutil.copytree(place.settings.home, tmp_path / "registry")
    return settings_in(tmp_path / "registry", tmp_path, place.settings.port)


def sql(settings: Settings, statement: str) -> None:
    with closing(sqlite3.connect(settings.home / "registry.db")) as database:
        database.execute(statement)
        database.commit()


def reissue(settings: Settings, place: Place, *hosts: str, days: int = 0) -> None:
    for path in (settings.certificate, settings.key):
        path.unlink()
    moment = now() + timedelta(days=days)
    issue(place.folder / "ca", list(hosts), settings.certificate, settings.key, moment)


REGISTRY_ROWS: list[tuple[str, Callable[[Settings, Place], object], list[tuple[str, str]]]] = [
    ("nothing", lambda s, _: None, []),
    (
        "no database",
        lambda s, _: (s.home / "registry.db").unlink(),
        [("database", "database-unreachable")],
    ),
    (
        "a damaged database",
        lambda s, _: (s.home / "registry.db").write_bytes(b"scrap" * 9999),
        [("database", "database-damaged")],
    ),
    (
        "an older schema",
        lambda s, _: sql(s, "UPDATE alembic_version SET version_num = '0001'"),
        [("database", "wrong-schema")],
    ),
    ("a log key that others read", lambda s, _: s.log_key.chmod(0o640), [("key", "exposed-key")]),
    ("an old certificate", lambda s, p: reissue(s, p, HOST, days=-500), [("tls", "tls-expired")]),
    (
        "a certificate of tomorrow",
        lambda s, p: reissue(s, p, HOST, days=2),
        [("tls", "tls-not-yet-valid")],
    ),
    ("a certificate for another", lambda s, p: reissue(s, p, "other.test"), [("tls", "tls-name")]),
    (
        "another key",
        lambda s, p: shutil.copy(p.folder / "ca" / "ca.key", s.key),
        [("tls", "bad-certificate")],
    ),
]


@pytest.mark.parametrize(
    ("plant", "wanted"),
    [pytest.param(plant, wanted, id=name) for name, plant, wanted in REGISTRY_ROWS],
)
def test_each_fault_of_a_registrys_folder_is_named(
    place: Place,
    tmp_path: Path,
    plant: Callable[[Settings, Place], object],
    wanted: list[tuple[str, str]],
) -> None:
    settings = spoiled(place, tmp_path)
    plant(settings, place)
    ill = [check for check in registry.examine(settings) if not check.ok]
    assert [(check.layer, check.code) for check in ill] == wanted
    assert all(check.remedy for check in ill)


def test_a_registry_that_does_not_run_is_told_so(place: Place, tmp_path: Path) -> None:
    settings = spoiled(place, tmp_path)
    down = settings.model_copy(
        update={"port": (port := free_port()), "url": f"https://{HOST}:{port}"}
    )
    ill = [check for check in registry.examine(down) if not check.ok]
    assert [(check.name, check.code) for check in ill] == [("registry", "tcp-refused")]


def test_the_verb_finds_out_whose_folder_it_is(place: Place, tmp_path: Path) -> None:
    registry_ = accord("doctor", "--home", place.settings.home, "--format", "json")
    assert registry_.code == 0 and registry_.json["ok"]
    assert {check["name"] for check in registry_.json["checks"]} >= {"database", "certificate"}
    office = accord("doctor", "--home", place.home.path)
    assert office.code == 0 and "membership" in office.out
    assert accord("doctor", "--home", tmp_path, "--format", "json").error["code"] == "no-home"
