"""`accord data`: public data sets for demonstrations."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from accord_common.cli import Format, FormatOption, emit, note, verbs

DATA_DIR = Path("~/.accord-data")
DataDirOption = Annotated[
    Path,
    typer.Option("--data-dir", envvar="ACCORD_DATA_DIR", help="Folder of public data sets."),
]

app = verbs("Fetch public data sets for demonstrations.")


class Fetched(StrEnum):
    """Data sets that are fetched."""

    HEART = "heart"


@app.command(epilog="Example: accord data fetch heart")
def fetch(
    name: Annotated[Fetched, typer.Argument(help="heart: UCI Heart Disease, 40 kB, CC BY 4.0.")],
    data_dir: DataDirOption = DATA_DIR,
    url: Annotated[str, typer.Option(help="A mirror's folder, in place of the maker's.")] = "",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Download a data set and check it byte for byte; what is there already stays."""
    from accord_server.demo import downloads

    data_set = {Fetched.HEART: downloads.HEART}[name]
    folder = data_dir.expanduser().absolute()
    fetched = 0
    for path, new in downloads.fetch(data_set, folder, url):
        note(f"{path}: {'fetched' if new else 'was there'}")
        fetched += new
    emit(
        {"name": name.value, "folder": str(folder), "fetched": fetched},
        format_,
        f"{name.value} is in {folder}\nNext: accord demo --data {name.value}"
        + ("" if data_dir == DATA_DIR else f" --data-dir {folder}"),
    )
