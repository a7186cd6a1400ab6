"""Terms to begin with, one commented file a field of work, shipped with the package.

Guarantees: once its blanks (`<...>`) are filled, a template is terms that `draft` accepts; each
number stands beside why it is that number. A file that exists is never written over.

Not covered: whether they suit a case. They are a start for people who read them.
"""

import os
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from accord_common.errors import UsageError


class Template(StrEnum):
    """The fields of work; `templates/` has a file for each."""

    CLINICAL = "clinical"
    ACADEMIC = "academic"
    FINANCE = "finance"


def text_of(template: Template) -> str:
    """Return a template as it is shipped."""
    return (
        files("accord_server.coordinator")
        .joinpath("templates", f"{template.value}.yaml")
        .read_text(encoding="utf-8")
    )


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        UsageError: `file-exists`; nothing was changed.
    """
    try:
        handle = os.open(path.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError as error:
        raise UsageError(
            "file-exists", f"{path} exists", hint="Name another file with --output."
        ) from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
