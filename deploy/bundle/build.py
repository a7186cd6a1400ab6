"""Make the air-gapped bundle: every wheel, their hashes, what they are, and a signature over all.

    accord-0.1.0-cp311-linux_x86_64.tar
      install.sh         verifies all of it, then installs without a network
      wheels/            Accord's and every pinned dependency's, for this Python and machine
      requirements.txt   each wheel's name, version and SHA-256, for pip's --require-hashes
      sbom.cdx.json      CycloneDX 1.6: name, version, licence and SHA-256 of each
      SHA256SUMS         of every other file
      SHA256SUMS.sig     Ed25519 over SHA256SUMS, 64 bytes

Guarantees: a file that changed, is missing, or was added is refused by install.sh before pip runs,
as long as the reader has the public key from elsewhere. Wheels that need building are built here.

Not covered: that an index served the right wheel (its hash is taken down, not compared with a
pin), reproducible bytes, Python and OpenSSL themselves. `make bundle KEY=bundle.key` calls this.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXTRAS = "node,steward,registry,aggregator,coordinator"
SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel's file and what its METADATA says."""

    path: Path
    name: str
    version: str
    licence: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hex."""
        return sha256(self.path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, seal and pack; the archive's path goes to stdout."""
    parser = argparse.ArgumentParser(description="Make the air-gapped bundle.")
    parser.add_argument("--key", type=Path, required=True, help="Ed25519 private key, PEM")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the archive")
    given = parser.parse_args(arguments)
    key = read_key(given.key)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.out) as work:
        folder = Path(work)
        gather(folder / "wheels")
        wheels = seal(folder, key)
        (own,) = (wheel for wheel in wheels if wheel.name == "accord")
        archive = pack(folder, given.out, own.version)
    sys.stdout.write(f"{archive}\n")


def read_key(path: Path) -> Ed25519PrivateKey:
    """Read the signing key; SystemExit where the file holds none."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SystemExit(
            f"bundle: no key in {path}: {error}. "
            f"Make one: openssl genpkey -algorithm ed25519 -out {path}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SystemExit(f"bundle: {path} is not an Ed25519 key")
    return key


def gather(wheels: Path) -> None:
    """Bring Accord's wheel and those of every pinned dependency into a folder."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--wheel-dir"]
    own = [*pip, str(wheels), "--no-deps", str(ROOT)]
    subprocess.run(own, check=True, stdout=sys.stderr)
    (made,) = wheels.glob("accord-*.whl")
    pins = ["--constraint", str(ROOT / "deploy" / "constraints.txt")]
    rest = [*pip, str(wheels), *pins, f"accord[{EXTRAS}] @ {made.as_uri()}"]
    subprocess.run(rest, check=True, stdout=sys.stderr)


def seal(folder: Path, key: Ed25519PrivateKey) -> list[Wheel]:
    """Write everything beside `folder/wheels`, the signature last; return the wheels."""
    wheels = [read_wheel(path) for path in sorted((folder / "wheels").glob("*.whl"))]
    requirements = [
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels
    ]
    (folder / "requirements.txt").write_text("".join(requirements))
    (folder / "sbom.cdx.json").write_text(json.dumps(bill_of_materials(wheels), indent=1) + "\n")
    shutil.copy2(HERE / "install.sh", folder / "install.sh")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256(path)}  {path.relative_to(folder)}\n" for path in files)
    (folder / SUMS).write_text(sums)
    (folder / f"{SUMS}.sig").write_bytes(key.sign(sums.encode()))
    return wheels


def pack(folder: Path, out: Path, version: str) -> Path:
    """Put a sealed folder into one archive, named for version, Python and machine."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    name = f"accord-{version}-{python}-{sysconfig.get_platform().replace('-', '_')}"
    archive = out / f"{name}.tar"
    with tarfile.open(archive, "w") as file:  # wheels are compressed already
        file.add(folder, name)
    return archive


def read_wheel(path: Path) -> Wheel:
    """Read name, version and licence out of a wheel."""
    with zipfile.ZipFile(path) as file:
        (entry,) = (
            name
            for name in file.namelist()
            if name.count("/") == 1 and name.endswith(".dist-info/METADATA")
        )
        said = BytesParser().parsebytes(file.read(entry), headersonly=True)
    return Wheel(path, said["Name"], said["Version"], _licence(said))


def bill_of_materials(wheels: Sequence[Wheel]) -> dict[str, object]:
    """Return a CycloneDX 1.6 document; its subject is Accord, which is the first of them."""
    parts = {wheel.name: _component(wheel) for wheel in wheels}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": parts.pop("accord") | {"type": "application"}},
        "components": list(parts.values()),
    }


def _component(wheel: Wheel) -> dict[str, object]:
    reference = f"pkg:pypi/{wheel.name.lower().replace('_', '-')}@{wheel.version}"
    return {
        "type": "library",
        "bom-ref": reference,
        "name": wheel.name,
        "version": wheel.version,
        "purl": reference.replace("+", "%2B"),
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "licenses": [{"license": {"name": wheel.licence}}] if wheel.licence else [],
    }


def _licence(said: Message) -> str:
    """An expression, else a classifier, else the first line of the old free text."""
    if expression := said["License-Expression"]:
        return str(expression)
    for classifier in said.get_all("Classifier", []):
        if classifier.startswith("License ::"):
            return str(classifier).rpartition(" :: ")[2]
    lines = str(said["License"] or "").strip().splitlines()
    return lines[0][:100] if lines else ""


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
