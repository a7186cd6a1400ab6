"""Pictures where they lie: a folder with a folder for each class, one with `labels.csv`, or IDX.

    chest/clear/0001.png  chest/shadow/0002.png         the class is the folder's name
    chest/labels.csv      file,label[,identifier]       `file` relative to the folder, with /
    train-images-idx3-ubyte[.gz]                        as MNIST; labels-idx1 beside it

Guarantees: every picture that counts was decoded under the schema (`pictures`); nothing outside the
folder is read, so links are refused; the hash covers names, labels, identifiers and bytes, in the
order of the rows. Memory holds the decoded pictures, one byte a channel and pixel, and one file.

Edge cases: names that begin with a dot are no pictures; in a folder with `labels.csv` what that
does not list is never read. The k-th class of the schema is an IDX file's label k - 1.

Needs Pillow, and pandas for `labels.csv`.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from accord_common import idx, pictures, tables
from accord_common.canonical import canonical_bytes, sha256_hex
from accord_common.errors import DataError, UsageError
from accord_common.image_schema import FILE, ImageSchema
from accord_common.tables import Encoded

LABELS = "labels.csv"
MAX_LABELS_BYTES = 1 << 30
MAX_DECODED_BYTES = 16 << 30  # of all pictures together, as a node holds them
_IDX_IMAGES, _IDX_LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


@dataclass(frozen=True, slots=True)
class Pictures:
    """All pictures of a place: bytes (n, C, H, W), whose they are, and the hash of what was read.

    `people` is None where the schema names no identifier.
    """

    table: Encoded
    people: list[str] | None
    sha256: str


def glance(path: Path) -> str:
    """Tell a changed place without reading a picture: count, bytes, and a hash of the listing.

    Raises:
        DataError: `dataset-missing`, `bad-file-name`.
    """
    listing, count, total = hashlib.sha256(), 0, 0
    for name, seen in _listing(path):
        listing.update(canonical_bytes([name, seen.st_size, str(seen.st_mtime_ns)]))
        count, total = count + 1, total + seen.st_size
    return f"{count} files, {total} bytes, {listing.hexdigest()[:32]}"


def read(path: Path, schema: ImageSchema) -> Pictures:
    """Decode every picture of a place.

    Raises:
        DataError: `dataset-missing`, `linked-file`, `bad-file-name`, `not-a-picture`,
            `unknown-class`, `repeated-picture`, `too-few-rows`, `too-many-pictures`, `bad-idx`,
            what `tables.validate` raises of `labels.csv`, or what `pictures.decode` raises, with
            the picture's name.
        UsageError: `unknown-format`.
    """
    if path.is_dir():
        return _read_folder(path, schema)
    if _IDX_IMAGES in path.name:
        return _read_idx(path, schema)
    if not path.exists():
        raise DataError("dataset-missing", f"{path}: no such folder")
    raise UsageError(
        "unknown-format",
        f"{path.name} is neither a folder of pictures nor an IDX file of images",
        hint=f"Give a folder with {LABELS} or a folder for each class, or a file named "
        f"...{_IDX_IMAGES}[.gz].",
    )


def _read_folder(root: Path, schema: ImageSchema) -> Pictures:
    given = root / LABELS
    if given.exists():
        frame = tables.decode(_read_file(root, LABELS, MAX_LABELS_BYTES), "csv")
    else:
        frame = _by_folders(root, schema)
    frame = tables.validate(frame, schema)
    names, people = frame[FILE].tolist(), tables.people(frame, schema)
    if len(set(names)) < len(names):
        repeated = frame[FILE][frame[FILE].duplicated()].iloc[0]
        raise DataError("repeated-picture", f"{LABELS} lists {repeated!r} twice")
    pixels = _room(len(names), schema)
    seen = hashlib.sha256()
    owners: Sequence[str | None] = people or [None] * len(names)
    columns = zip(names, frame[schema.target.column], owners, strict=True)
    for row, (name, label, person) in enumerate(columns):
        data = _read_file(root, name, pictures.MAX_FILE_BYTES)
        pixels[row] = pictures.decode(data, name, schema)
        seen.update(canonical_bytes([name, label, person, sha256_hex(data)]))
    return Pictures(Encoded(pixels, tables.labels_of(frame, schema)), people, seen.hexdigest())


def _by_folders(root: Path, schema: ImageSchema) -> pd.DataFrame:
    """Name every picture in the folders of the classes, and its class."""
    if schema.identifier is not None:
        raise DataError(
            "missing-column",
            f"folders of classes do not say whose a picture is, and the schema names the "
            f"identifier {schema.identifier!r}",
            hint=f"Write {LABELS}: {FILE},{schema.target.column},{schema.identifier}",
        )
    names, classes = [], []
    for name, seen in _listing(root):
        if stat.S_ISLNK(seen.st_mode):
            raise _outside(name, "is a link")
        place = PurePosixPath(name)
        if len(place.parts) != 2 or place.suffix.lower() not in pictures.SUFFIXES:
            raise DataError(
                "not-a-picture",
                f"{name} is no PNG or JPEG in the folder of a class",
                hint=f"Take it out, or say in {LABELS} which files count.",
            )
        if place.parts[0] not in schema.target.classes:
            raise DataError(
                "unknown-class",
                f"folder {place.parts[0]!r} is no class of the schema",
                hint=f"The classes are {', '.join(schema.target.classes[:20])}.",
            )
        names.append(name)
        classes.append(place.parts[0])
    return pd.DataFrame({FILE: names, schema.target.column: classes}, dtype=object)


def _listing(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and link of a place by name, or the two of an IDX pair, but for hidden ones."""
    try:
        if not root.is_dir():
            for path in (root, _labels_of(root)):
                yield path.name, path.stat()
            return
        for folder, below, files in os.walk(root, onerror=_fail):
            below[:] = sorted(name for name in below if not name.startswith("."))
            links = [name for name in below if os.path.islink(os.path.join(folder, name))]
            for name in sorted(name for name in files + links if not name.startswith(".")):
                path = Path(folder, name)
                yield _utf8(path.relative_to(root).as_posix()), path.lstat()
    except OSError as error:
        raise DataError("dataset-missing", f"{error.filename}: {error.strerror}") from error


def _fail(error: OSError) -> None:
    raise error


def _utf8(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            "bad-file-name", f"{os.fsencode(name)!r} is no UTF-8", hint="Rename the file."
        ) from error
    return name


def _read_file(root: Path, name: str, most: int) -> bytes:
    """Read a plain file below `root`, by no link and no way out of it."""
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or str(place) != name:
        raise _outside(name, "is no plain name below the folder")
    path = root
    try:
        for part in place.parts:
            path /= part
            if path.is_symlink():
                raise _outside(name, "is reached by a link")
        with open(path, "rb", opener=_plain) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise DataError("dataset-missing", f"{name}: {error.strerror}") from error
    except ValueError as error:  # a name with a null character
        raise _outside(name, "is no name of a file") from error
    if len(data) > most:
        raise DataError("picture-too-large", f"{name} is larger than {most} bytes")
    return data


def _plain(path: str, flags: int) -> int:
    """Open without waiting for a pipe's other end; refuse what is no plain file."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "no plain file", path)
    return descriptor


def _outside(name: str, reason: str) -> DataError:
    return DataError(
        "linked-file",
        f"{name[:200]!r} {reason}",
        hint="Only plain files below the folder are read: put the picture itself there.",
    )


def _room(rows: int, schema: ImageSchema) -> NDArray[np.uint8]:
    shape = rows, schema.channels, schema.height, schema.width
    if (needed := int(np.prod(shape))) > MAX_DECODED_BYTES:
        raise DataError(
            "too-many-pictures",
            f"{rows} pictures take {needed} bytes decoded; at most {MAX_DECODED_BYTES}",
            hint="Agree on a smaller size, or register fewer.",
        )
    return np.empty(shape, np.uint8)


def _read_idx(path: Path, schema: ImageSchema) -> Pictures:
    """Read a pair of IDX files; sizes must match, since such files hold nothing but pixels."""
    if schema.identifier is not None:
        raise DataError("missing-column", f"IDX files hold no identifier {schema.identifier!r}")
    images, image_hash = idx.read(path, 3, max_bytes=MAX_DECODED_BYTES)
    numbers, label_hash = idx.read(_labels_of(path), 1, max_bytes=MAX_DECODED_BYTES)
    if images.shape[1:] != (schema.height, schema.width) or schema.channels != 1:
        raise DataError(
            "wrong-size",
            f"{path.name} has grey images of {images.shape[2]} x {images.shape[1]} pixels, the "
            f"schema {schema.width} x {schema.height}, {schema.channels} channels",
        )
    if len(images) != len(numbers):
        raise DataError("bad-idx", f"{path.name}: {len(images)} images, {len(numbers)} labels")
    tables.refuse_too_few(len(images), schema)
    if numbers.max(initial=0) >= schema.classes:
        raise DataError(
            "unknown-class", f"{path.name}: label {numbers.max()}, {schema.classes} classes"
        )
    seen = sha256_hex(canonical_bytes([image_hash, label_hash]))
    return Pictures(Encoded(images[:, np.newaxis], numbers.astype(np.int64)), None, seen)


def _labels_of(path: Path) -> Path:
    return path.with_name(path.name.replace(_IDX_IMAGES, _IDX_LABELS))
