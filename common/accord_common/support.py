"""What somebody may send to whoever helps them: a zip of parts that are made for it.

Guarantees: nothing is copied from a file, a setting or an error; each part is built anew of fields
that are named here or by its maker, so whatever is not named is left out. Of a log line stand time,
level, logger, the run's id, round and attempt, and those words that stand literally in Accord's own
source, which no row, key or address can choose; of an exception its types and its places in
Accord's own files. A part that cannot be made says so by a code, and the others are made.

Not covered: who may see it. Times, ids and codes tell when a site worked and what failed there.
"""

import builtins
import hashlib
import io
import json
import os
import platform
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from accord_common import errors
from accord_common.errors import AccordError, ConflictError
from accord_common.fields import format_time, now
from accord_common.files import write_secret
from accord_common.manifest import PROTOCOL

LAST_LINES = 2000  # of a log; some days of a node, about 300 KiB
_READ_BYTES = 4 << 20  # of a log's end, which hold that many lines
_PACKAGES = ("accord_common", "accord_client", "accord_server")
_VARIABLES = (
    "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TZ",
)  # fmt: skip

_LITERAL = re.compile(r"[\"`]([a-z][a-z0-9]*(?:-[a-z0-9]+)*)[\"`]")
_LOGGER = re.compile(r"get_logger\(\"([a-z_.]+)\"\)")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_PLACE = re.compile(r"(?P<file>accord_[a-z]+/[a-z_/]+\.py):(?P<line>\d{1,4})( in \w+)?")
_LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})
_WORDS = ("code", "decision", "status", "state", "stage", "outcome", "type")  # of a log line
_NUMBERS = ("round", "attempt")
_MOST_NUMBER = 10_000  # rounds and attempts; a larger one would be something else


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a bundle: its name, what it holds in words, its bytes."""

    name: str
    holds: str
    data: bytes


def part(name: str, holds: str, look: Callable[[], object]) -> Part:
    """Make a part of what `look` returns, JSON; of its failure where it fails."""
    try:
        value = look()
    except AccordError as error:
        value = {"failed": known(error.code)}
    except Exception as error:  # a bundle is wanted where something is broken
        value = {"failed": _type(type(error).__name__)}
    if isinstance(value, list) and name.endswith(".jsonl"):
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in value)
    else:
        text = json.dumps(value, indent=2) + "\n"
    return Part(name, holds, text.encode("ascii"))


def write(path: Path, parts: Sequence[Part]) -> str:
    """Write the zip, mode 0600, durable on return; the same parts give the same bytes.

    Returns:
        Its SHA-256, hex.

    Raises:
        ConflictError: `bundle-exists`.
    """
    if path.exists():
        raise ConflictError("bundle-exists", f"{path} is there", hint="Choose another name.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in parts:
            entry = zipfile.ZipInfo(item.name)  # 1980, as nobody needs to know
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, item.data)
    data = buffer.getvalue()
    write_secret(path, data)
    return hashlib.sha256(data).hexdigest()


def about() -> dict[str, Any]:
    """Which software on what kind of machine; no name of either machine or person."""
    return {
        "made": format_time(now()),
        "accord": metadata.version("accord"),
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "system": platform.system(),
        "kernel": platform.release(),
        "processor": platform.machine(),
        "processors": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "user_is_root": os.geteuid() == 0,
        "libraries": _libraries(),
        "environment": [
            name for name in _VARIABLES if name in os.environ or name.lower() in os.environ
        ],
    }


def host_of(url: str | None) -> dict[str, Any] | None:
    """Scheme, host and port of an address: no account, no password, no path, no query."""
    if url is None:
        return None
    parsed = urlsplit(url)
    return {"scheme": parsed.scheme, "host": parsed.hostname, "port": parsed.port}


def files(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Size (bytes) and mode of the named files, and the space of the disk they are on."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            status = (folder / name).stat()
        except OSError as error:
            found[name] = {"errno": error.errno}
            continue
        found[name] = {"bytes": status.st_size, "mode": f"{status.st_mode & 0o777:03o}"}
    space = os.statvfs(folder)
    return {
        "files": found,
        "folder_mode": f"{folder.stat().st_mode & 0o777:03o}",
        "disk_bytes": space.f_blocks * space.f_frsize,
        "free_bytes": space.f_bavail * space.f_frsize,
        "free_names": space.f_favail,
    }


def last_events(path: Path, backups: int = 1) -> list[dict[str, Any]]:
    """What may leave of the last lines of a log, oldest first; a rotated file before the newest."""
    raw: list[bytes] = []
    for name in [*(f"{path}.{number}" for number in range(backups, 0, -1)), str(path)]:
        try:
            with open(name, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _READ_BYTES))
                raw += file.read().splitlines()
        except FileNotFoundError:
            continue
    return [event for line in raw[-LAST_LINES:] if (event := _event(line)) is not None]


def is_id(text: str) -> bool:
    """Whether a text is an id of Accord's, which is random and says when it was made."""
    return _ID.fullmatch(text) is not None


def known(word: object) -> str:
    """A word that stands in Accord's own source, or `(other)` in the place of any other."""
    return word if isinstance(word, str) and word in _vocabulary() else "(other)"


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except ValueError:  # the first one may be cut
        return None
    if not isinstance(told, dict):
        return None
    kept: dict[str, Any] = {}
    if isinstance(time := told.get("timestamp"), str) and _TIME.fullmatch(time):
        kept["timestamp"] = time
    if told.get("level") in _LEVELS:
        kept["level"] = told["level"]
    kept["logger"] = told.get("logger") if told.get("logger") in _loggers() else "(other)"
    kept["event"] = known(told.get("event")) if kept["logger"] != "(other)" else "(other)"
    kept |= {name: known(told[name]) for name in _WORDS if name in told}
    if isinstance(run := told.get("run"), str) and is_id(run):
        kept["run"] = run
    for name in _NUMBERS:
        if type(number := told.get(name)) is int and 0 <= number < _MOST_NUMBER:
            kept[name] = number
    if isinstance(exception := told.get("exception"), list):
        kept["exception"] = [_exception(item) for item in exception if isinstance(item, dict)]
    return kept


def _exception(told: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {"type": _type(told.get("type"))}
    if "code" in told:
        kept["code"] = known(told["code"])
    if isinstance(at := told.get("at"), list):
        kept["at"] = [place for item in at if (place := _place(item)) is not None]
    return kept


def _type(name: object) -> str:
    for module in (builtins, errors):
        kind = getattr(module, name, None) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, BaseException):
            return kind.__name__
    return "(other)"


def _place(text: object) -> str | None:
    found = _PLACE.fullmatch(text) if isinstance(text, str) else None
    if found is None or int(found["line"]) > _sources().get(found["file"], "").count("\n"):
        return None
    return f"{found['file']}:{int(found['line'])}"


@cache
def _sources() -> dict[str, str]:
    """Accord's own source as installed, by path from the package on."""
    found = {}
    for package in _PACKAGES:
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec is not None else []:
            for path in Path(root).rglob("*.py"):
                name = f"{package}/{path.relative_to(root).as_posix()}"
                found[name] = path.read_text(encoding="utf-8")
    return found


@cache
def _vocabulary() -> frozenset[str]:
    return frozenset(word for text in _sources().values() for word in _LITERAL.findall(text))


@cache
def _loggers() -> frozenset[str]:
    named = {name for text in _sources().values() for name in _LOGGER.findall(text)}
    return frozenset(named | {name.removesuffix(".py").replace("/", ".") for name in _sources()})


def _libraries() -> dict[str, str]:
    """Versions of what Accord declares that it needs; nothing else that is installed."""
    found = {}
    for line in metadata.requires("accord") or []:
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return dict(sorted(found.items()))
