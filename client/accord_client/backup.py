"""A node's folder as one sealed file, taken while the daemon runs, and back again.

    backup.json   who, when, the ledger's head, SHA-256 of each file
    ...           the files, databases as SQLite's online backup gives them

Guarantees: what was queued or noted has its ledger entry and outbox line in the copy too (`node.db`
is copied before the ledger, the outbox last); the copy's ledger and outbox are walked before it is
sealed and after it was opened; a restored folder is there whole or not at all, in the place of
nothing, and frozen until its ledger was compared with the registry (`reconciling.freeze_restored`).

Left out: `rounds.db`, since a round's secrets must never be used twice: a restored node takes part
in no run that was under way; bases, logs and locks; the tables themselves, which lie elsewhere. The
lists of who opted out are in it, and the keys as they lie in the folder: hence the passphrase.

Not covered: a folder that is copied by hand, which begins unfrozen.
"""

import fcntl
import hashlib
import io
import os
import secrets
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import StringConstraints

from accord_client import heads, outbox, state
from accord_client.disk import named_failures
from accord_client.ledger import Ledger
from accord_client.reconciling import freeze_restored
from accord_client.sealed_stream import Opened, Sealed, sealing
from accord_client.state import State
from accord_client.stores import LEDGER_FILE
from accord_common.enrolment import Delegation
from accord_common.errors import ConflictError, FormatError, UsageError, VerificationError
from accord_common.fields import Count, Hash, Id, Name, Record, Time, format_time
from accord_common.files import make_folder, replacing, sync
from accord_common.home import Home

_CONTENTS = "backup.json"
_MAX_CONTENTS_BYTES = 8 << 20  # a line a file; a node has some dozens
_PIECE_BYTES = 1 << 20
_DATABASES = (state.FILE_NAME, LEDGER_FILE, heads.FILE_NAME)  # in this order: see the module
_FILES = (
    *("profile.json", "identity.key", "node.pem", "flower.pem", "delegation.json"),
    # Where there are any. Without the settings a restored node would keep to no hours or limits.
    *("ca.pem", "token", "revocation.json", "settings.toml", "network.json"),
)
_FOLDERS = tuple(
    f"{name}/*.json"
    for name in (
        *("delegations", "agreements", "withdrawals", "suspensions", "leaving", "datasets"),
        "catalogue",
    )
)
_OPT_OUTS = "datasets/*.opt-outs"

Place = Annotated[str, StringConstraints(pattern=r"^([a-z]+/)?[a-z0-9][a-z0-9.-]{0,99}$")]


class Contents(Record):
    """What a backup says of itself."""

    format: Literal["accord-node-backup-v1"]
    party: Id
    name: Name
    made: Time
    entries: Count
    head: Hash
    files: dict[Place, Hash]


def back_up(home: Home, target: Path, passphrase: str, now: datetime) -> Contents:
    """Write everything that the node needs to begin again into one sealed file, mode 0600.

    Raises:
        UsageError: `file-exists`, `short-passphrase`, `same-passphrase`.
        ConflictError: `home-changing` where keys were exchanged meanwhile.
        VerificationError: `ledger-broken`, `outbox-broken`; a damaged folder is not backed up.
    """
    if target.exists():
        raise UsageError("file-exists", f"{target} exists", hint="Name another file.")
    _require_other_passphrase(home, passphrase)
    with _stage(home.path) as stage:
        _copy(home.path, stage)
        copy = Home.open(stage)
        entries, head = _verify(copy)
        files = {str(path.relative_to(stage)): _digest(path) for path in _listed(stage)}
        contents = Contents(
            format="accord-node-backup-v1",
            party=home.profile.party,
            name=home.profile.name,
            made=format_time(now),
            entries=entries,
            head=head,
            files=files,
        )
        with replacing(target) as file, sealing(file, passphrase) as sealed:
            _pack(stage, contents, sealed)
    return contents


def restore(source: Path, path: Path, passphrase: str, now: datetime) -> tuple[Home, Contents]:
    """Set a node up again from a backup, in a folder that is not there, or empty; frozen.

    Raises:
        UsageError: `home-exists`, `wrong-passphrase`.
        FormatError: `bad-backup`.
        VerificationError: what does not hold in it.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError("home-exists", f"{path} is not empty", hint="Choose another --home.")
    found: list[Contents] = []

    def fill(folder: Path) -> None:
        with source.open("rb") as file:
            opened = Opened(file, passphrase)
            contents = _unpack(opened, folder)
            opened.finish()
        home = Home.open(folder)
        if (*_verify(home), home.profile.party) != (
            contents.entries,
            contents.head,
            contents.party,
        ):
            raise VerificationError("bad-backup", "the ledger is not the one that the backup names")
        with closing(State(folder / state.FILE_NAME)) as memory:
            freeze_restored(memory, contents.made, now)
        found.append(contents)

    make_folder(path, fill)
    return Home.open(path), found[0]


def _require_other_passphrase(home: Home, passphrase: str) -> None:
    """Nightly backups read their passphrase from a file: it must not open the identity key."""
    try:
        home.identity(passphrase)
    except UsageError:
        return
    raise UsageError(
        "same-passphrase",
        "this passphrase opens the institution's identity key",
        hint="Give the backup one of its own, and keep it elsewhere than the backup.",
    )


@contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """A folder on the same disk, under the same protection, gone at the end."""
    stage = folder / f".backup.{secrets.token_hex(8)}"
    stage.mkdir(mode=0o700)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _copy(folder: Path, stage: Path) -> None:
    for name in _DATABASES:
        with (
            named_failures("backup", folder / name),
            closing(sqlite3.connect(folder / name)) as source,
            closing(sqlite3.connect(stage / name)) as target,
        ):
            source.backup(target)
    lines = folder / outbox.FILE_NAME
    if lines.exists():
        with lines.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # whoever appends holds it alone
            (stage / lines.name).write_bytes(file.read())
    for path in _listed(folder):
        copy = stage / path.relative_to(folder)
        if not copy.exists():
            copy.parent.mkdir(mode=0o700, exist_ok=True)
            copy.write_bytes(path.read_bytes())


def _listed(folder: Path) -> list[Path]:
    """The files of a folder that belong into a backup."""
    single = [folder / name for name in (*_DATABASES, outbox.FILE_NAME, *_FILES)]
    several = [path for pattern in (*_FOLDERS, _OPT_OUTS) for path in sorted(folder.glob(pattern))]
    return [path for path in (*single, *several) if path.is_file()]


def _verify(home: Home) -> tuple[int, str]:
    """Check keys, ledger, outbox and memory of a copy; returns the ledger's length and head."""
    key, keys = home.node_key(), home.node_keys()
    if Delegation.from_bytes(home.delegation().payload).node_key != key.public:
        raise ConflictError(
            "home-changing",
            "node.pem is not the key that delegation.json names",
            hint="Were the node's keys exchanged just now? Then try again.",
        )
    with closing(Ledger.open(home.path / LEDGER_FILE, key)) as ledger:
        entries, head = ledger.length, ledger.verify(keys)
    outbox.verify(home.path / outbox.FILE_NAME, keys)
    memory = home.path / state.FILE_NAME
    with named_failures("state", memory), closing(sqlite3.connect(memory)) as db:
        (told,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if told != "ok":
        raise VerificationError("state-broken", f"{memory}: {told}")
    return entries, head


def _pack(stage: Path, contents: Contents, sealed: Sealed) -> None:
    with tarfile.open(fileobj=_Writer(sealed), mode="w|") as archive:
        data = contents.to_bytes()
        archive.addfile(_member(_CONTENTS, len(data)), io.BytesIO(data))
        for name in contents.files:
            with (stage / name).open("rb") as file:
                archive.addfile(_member(name, os.fstat(file.fileno()).st_size), file)


class _Writer(io.RawIOBase):
    """What tarfile takes for a file."""

    def __init__(self, sealed: Sealed) -> None:
        self._sealed = sealed

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # tarfile writes bytes alone
        return self._sealed.write(data)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _unpack(opened: Opened, folder: Path) -> Contents:
    """Write what a backup names, and nothing else, each file as it was hashed."""
    try:
        with tarfile.open(fileobj=opened, mode="r|") as archive:  # type: ignore[call-overload]
            first = archive.next()
            if first is None or first.name != _CONTENTS or first.size > _MAX_CONTENTS_BYTES:
                raise FormatError("bad-backup", f"the backup does not begin with {_CONTENTS}")
            file = archive.extractfile(first)
            assert file is not None  # `_CONTENTS` is a plain file, or does not decode
            contents = Contents.from_bytes(file.read(), max_bytes=_MAX_CONTENTS_BYTES)
            waiting = dict(contents.files)
            while (member := archive.next()) is not None:
                file = archive.extractfile(member) if member.isreg() else None
                if file is None or member.name not in waiting:
                    raise FormatError("bad-backup", f"{member.name!r} is not in the backup's list")
                if _write(folder / member.name, file) != waiting.pop(member.name):
                    raise FormatError("bad-backup", f"{member.name} is not what was backed up")
    except tarfile.TarError as error:
        raise FormatError("bad-backup", f"the archive inside does not hold: {error}") from error
    if waiting:
        raise FormatError("bad-backup", f"{min(waiting)} is missing")
    return contents


def _write(path: Path, source: BinaryIO) -> str:
    """Write a file, mode 0600, synced; returns its SHA-256."""
    sha256 = hashlib.sha256()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while piece := source.read(_PIECE_BYTES):
            file.write(piece)
            sha256.update(piece)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)
    return sha256.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
