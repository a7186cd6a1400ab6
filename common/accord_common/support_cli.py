"""The dialogue that all `support-bundle` verbs have: what is in it, then the file."""

from collections.abc import Sequence
from pathlib import Path

from accord_common.cli import Format, confirm, emit, note, table
from accord_common.support import Part, write


def offer(parts: Sequence[Part], file: Path, *, yes: bool, format_: Format) -> None:
    """List the parts, ask, write.

    Raises:
        ConflictError: `bundle-exists`.
        UsageError: `not-confirmed`.
    """
    if format_ is Format.TEXT:
        rows = [[item.name, len(item.data), item.holds] for item in parts]
        note(table("part", "bytes", "holds", rows=rows))
    confirm(f"Write these {len(parts)} parts to {file}?", yes=yes)
    digest = write(file, parts)
    answer = {
        "file": str(file),
        "sha256": digest,
        "parts": [
            {"name": item.name, "bytes": len(item.data), "holds": item.holds} for item in parts
        ],
    }
    emit(answer, format_, f"{file}, SHA-256 {digest}\nLook into it before you send it on.")
