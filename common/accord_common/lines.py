"""Labelled texts as lines: `where How far is it?`, a label, blanks, a text.

Needs pandas.
"""

import pandas as pd

from accord_common.errors import DataError

LABEL, TEXT = "label", "text"  # the columns, as a text schema calls them unless it says otherwise


def read(data: bytes) -> pd.DataFrame:
    """Decode lines of UTF-8; empty ones are left out.

    Raises:
        DataError: `unreadable-table`, or `missing-value` naming a line without a text.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            "unreadable-table", f"the file is no UTF-8: {error}", hint="Convert it to UTF-8."
        ) from error
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        parts = line.split(maxsplit=1)
        if len(parts) == 1:
            raise DataError(
                "missing-value",
                f"line {number} is no label and a text",
                hint="Write `label text`, or remove the line.",
            )
        if parts:
            rows.append((parts[0], parts[1].rstrip()))
    return pd.DataFrame(rows, columns=[LABEL, TEXT], dtype=object)
