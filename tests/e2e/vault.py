"""A folder that holds evidence and the package, and a machine without a network to read it on.

What runs there has no environment, an empty home and a copy of the package; its folder is no other.
Where the kernel allows, it is in a network name space of its own, which has not even a loopback;
besides, whatever asks for an address or a connection ends it at once.
"""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import accord_common
import accord_server
from accord_server.demo.processes import COMMAND_S
from tests.e2e.terminal import Said

_NETWORK = 99  # the status with which it ends where it would use one
_SCRIPT = f"""
import os, sys
sys.addaudithook(lambda event, _: event.startswith("socket.") and event != "socket.__new__"
                 and event != "socket.gethostname" and os._exit({_NETWORK}))
import accord_common, accord_server
assert all(m.__file__.startswith(os.getcwd()) for m in (accord_common, accord_server)), sys.path
from accord_server.cli import main
main()
"""


class Vault:
    """See the module.

    Args:
        folder: is made; nothing else is put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._home = folder, folder.with_name(f"{folder.name}-home")
        folder.mkdir()
        self._home.mkdir()
        for package in (accord_common, accord_server):
            assert package.__file__ is not None
            source = Path(package.__file__).parent
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / "package" / source.name, ignore=ignored)

    def put(self, name: str, data: bytes) -> Path:
        """Have one file, and the package, in the folder."""
        for other in self.folder.iterdir():
            if other.is_file():
                other.unlink()
        path = self.folder / name
        path.write_bytes(data)
        return path

    def accord(self, *arguments: object) -> Said:
        """Run `accord` there; what it leaves in its home is an error."""
        alone = ["unshare", "--net"] if _may_unshare() else []
        done = subprocess.run(
            [*alone, sys.executable, "-c", _SCRIPT, *map(str, arguments)],
            env={
                "HOME": str(self._home),
                "PYTHONPATH": str(self.folder / "package"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "COLUMNS": "200",
            },
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode != _NETWORK, "it would have used a network"
        assert not list(self._home.iterdir())
        return Said(done.returncode, done.stdout, done.stderr)


def lines_of(bundle: bytes, part: str) -> list[bytes]:
    """The lines of one of a bundle's parts."""
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        file = archive.extractfile(part)
        assert file is not None
        return file.read().splitlines()


def line_of(bundle: bytes, kind: str) -> bytes:
    """The line with the first record of a kind."""
    wanted = f'"payloadType":"application/vnd.accord.{kind}+json"'.encode()
    return next(line for line in lines_of(bundle, "records.jsonl") if wanted in line)


def record_of(line: bytes) -> int:
    """A record's place in the log, by its line."""
    number: int = json.loads(line)["sequence"]
    return number


def flipped(bundle: bytes, line: bytes, mark: str) -> bytes:
    """The bundle with one bit of one of its lines changed, some bytes behind a mark."""
    place = bundle.index(line) + line.index(mark.encode()) + len(mark) + 40
    return bundle[:place] + bytes([bundle[place] ^ 1]) + bundle[place + 1 :]


def _may_unshare() -> bool:
    return (
        subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode
        == 0
    )
