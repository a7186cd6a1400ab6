"""`accord task`: what can be trained here."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from accord_common.cli import Format, FormatOption, emit, table, verbs


class KindChoice(StrEnum):
    """What a task learns from, as schemas name it."""

    TABLE = "table"
    IMAGES = "images"
    TEXT = "text"


app = verbs("List installed tasks, or start your own.")


@app.command("list", epilog="Example: accord task list")
def list_(format_: FormatOption = Format.TEXT) -> None:
    """List installed tasks with the hash of their code, which every node compares."""
    from accord_common.models.discovery import list_tasks, task_code

    codes = {name: task_code(name) for name in list_tasks()}
    answer = [
        {
            "name": name,
            "distribution": code.distribution,
            "version": code.version,
            "code_hash": code.code_hash,
        }
        for name, code in codes.items()
    ]
    rows = [[name, code.distribution, code.version, code.code_hash] for name, code in codes.items()]
    emit(answer, format_, table("task", "package", "version", "code", rows=rows))


@app.command(epilog="Example: accord task new triage --folder ./triage")
def new(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by hyphens.")],
    folder: Annotated[Path | None, typer.Option(help="A new folder; ./NAME otherwise.")] = None,
    kind: Annotated[KindChoice, typer.Option(help="What it learns from.")] = KindChoice.TABLE,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write an installable package with a task of your own to change."""
    from accord_common.models.scaffold import scaffold

    target = folder or Path(name)
    files = scaffold(name, target, kind.value)
    text = (
        "\n".join(str(file) for file in files)
        + f"\n\nNext: pip install {target}, at every institution that trains it."
    )
    answer = {"name": name, "folder": str(target), "files": [str(file) for file in files]}
    emit(answer, format_, text)
