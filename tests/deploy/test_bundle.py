"""The air-gapped bundle: installs with the network cut, and refuses what was touched."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from deploy.bundle import build

REFUSED = 5


def make_wheel(folder: Path, name: str, needs: str = "") -> None:
    """A wheel of one module, as small as they come."""
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nLicense-Expression: MIT\n"
    files = {
        f"{name}.py": f"NAME = {name!r}\n",
        f"{info}/METADATA": metadata + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        for path, text in files.items():
            file.writestr(path, text)


def write_public(key: Ed25519PrivateKey, path: Path) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def offline(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it where there is no network at all, not even a loopback that is up."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run(
        ["unshare", "--net", *user, *command],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle of two small wheels, and the public key."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "b" / "wheels").mkdir(parents=True)
    make_wheel(folder / "b" / "wheels", "accord", "helper==1.0")
    make_wheel(folder / "b" / "wheels", "helper")
    key = Ed25519PrivateKey.generate()
    build.seal(folder / "b", key)
    return folder / "b", write_public(key, folder / "key.pub")


def test_it_installs_with_the_network_cut_and_not_twice(
    sealed: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, public = sealed
    install = (folder / "install.sh", "--key", public, "--to", tmp_path / "accord")
    done = offline(*install)
    assert done.returncode == 0, done.stderr
    code = "import accord, helper; print(accord.NAME, helper.NAME)"
    assert offline(tmp_path / "accord/bin/python", "-c", code).stdout == "accord helper\n"
    again = offline(*install)
    assert again.returncode == 2 and "holds something" in again.stderr


def change(folder: Path) -> None:
    with (folder / "wheels" / "helper-1.0-py3-none-any.whl").open("ab") as file:
        file.write(b"\0")


def remove(folder: Path) -> None:
    (folder / "wheels" / "helper-1.0-py3-none-any.whl").unlink()


def add(folder: Path) -> None:
    make_wheel(folder / "wheels", "stranger")


def shorten(folder: Path) -> None:
    """The list without the wheel that was changed: the signature no longer holds."""
    change(folder)
    lines = (folder / build.SUMS).read_text().splitlines(keepends=True)
    (folder / build.SUMS).write_text("".join(line for line in lines if "helper" not in line))


def sign_again(folder: Path) -> None:
    change(folder)
    build.seal(folder, Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    ("touch", "told"),
    [
        (change, "missing or changed"),
        (remove, "missing or changed"),
        (add, "does not name"),
        (lambda folder: (folder / "wheels" / build.SUMS).touch(), "does not name"),
        (shorten, "not signed by"),
        (sign_again, "not signed by"),
        (lambda folder: (folder / "SHA256SUMS.sig").unlink(), "not signed by"),
    ],
)
def test_a_touched_bundle_is_refused_and_installs_nothing(
    sealed: tuple[Path, Path], tmp_path: Path, touch: Callable[[Path], None], told: str
) -> None:
    folder, public = sealed
    copy = shutil.copytree(folder, tmp_path / "copy")
    touch(copy)
    refused = offline(copy / "install.sh", "--key", public, "--to", tmp_path / "accord")
    assert refused.returncode == REFUSED and told in refused.stderr
    assert not (tmp_path / "accord").exists()


def test_the_bill_names_every_wheel_with_its_hash(sealed: tuple[Path, Path]) -> None:
    folder, _ = sealed
    bill = json.loads((folder / "sbom.cdx.json").read_text())
    parts = [bill["metadata"]["component"], *bill["components"]]
    assert [part["purl"] for part in parts] == ["pkg:pypi/accord@1.0", "pkg:pypi/helper@1.0"]
    for part in parts:
        wheel = folder / "wheels" / f"{part['name']}-1.0-py3-none-any.whl"
        assert part["hashes"] == [{"alg": "SHA-256", "content": build.sha256(wheel)}]
        assert part["licenses"] == [{"license": {"name": "MIT"}}]


@pytest.fixture
def space() -> Iterator[Path]:
    """2.4 GB that are gone afterwards; pytest keeps its own folders for three sessions."""
    with tempfile.TemporaryDirectory(prefix="accord-bundle-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.soak(sample=0, full=1)
def test_the_whole_product_installs_offline_and_works(space: Path, size: int) -> None:
    """Builds from an index, which pip must be able to reach; installs without any network."""
    key = Ed25519PrivateKey.generate()
    secret = space / "bundle.key"
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    build.main(["--key", str(secret), "--out", str(space)])
    (archive,) = space.glob("accord-*.tar")
    with tarfile.open(archive) as file:
        file.extractall(space, filter="data")
    archive.unlink()
    (folder,) = (path for path in space.glob("accord-*") if path.is_dir())
    public, to = write_public(key, space / "key.pub"), space / "opt"
    done = offline(folder / "install.sh", "--key", public, "--to", to)
    assert done.returncode == 0, done.stderr
    for command in (
        ("accord", "ca", "init", "--home", space / "ca"),
        ("accord", "task", "list"),
        ("accord-node", "--help"),
    ):
        answer = offline(to / "bin" / command[0], *command[1:])
        assert answer.returncode == 0, answer.stderr
    part = space / "registry"
    asked = ("--key", public, "--to", part, "--for", "registry")
    done = offline(folder / "install.sh", *asked)
    assert done.returncode == 0, done.stderr
    assert not list(part.glob("lib/python3*/site-packages/torch"))
    told = offline(part / "bin" / "accord", "registry", "start", "--home", space / "none")
    assert told.returncode == 2 and "no-registry" in told.stderr
    demo = f"ip link set lo up && exec {to}/bin/accord demo --home {space}/demo --format json"
    played = offline("sh", "-c", demo)
    assert played.returncode == 0, played.stderr
    assert json.loads(played.stdout)["status"] == "completed"
