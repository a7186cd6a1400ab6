"""What a query may be, and what the rows that it returns hash to.

Guarantees: `rows_hash` is the same for the same rows in any order, so a query needs no ORDER BY,
and differs where any cell differs in value or type.

Not covered: `check_select` reads no SQL grammar. It tells people early; that nothing is written is
the database's doing (`sql`), whatever the text says.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

from accord_common.errors import DataError, UsageError

# What may hold a semicolon that ends nothing: strings, quoted names, dollar quotes, comments.
_QUOTED = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | (\$\w*\$).*?\1 | --[^\n]* | /\*.*?\*/""",
    re.VERBOSE | re.DOTALL,
)


def check_select(query: str) -> None:
    """Refuse what is not one SELECT, or one WITH that ends in a SELECT.

    Raises:
        UsageError: `sql-not-select`.
    """
    bare = _QUOTED.sub(" ", query).strip()
    statements = [part for part in bare.split(";") if part.strip()]
    if len(statements) != 1 or not re.match(r"(select|with)\b", statements[0], re.IGNORECASE):
        raise UsageError(
            "sql-not-select",
            f"the query has {len(statements)} statements and begins with {bare[:20]!r}",
            hint="Give one SELECT statement that returns one row for each record.",
        )


def row_hash(names: Sequence[str], row: Sequence[object]) -> bytes:
    """Return SHA-256 over the types and values of one row.

    Raises:
        DataError: `sql-type`.
    """
    cells = [_cell(name, value) for name, value in zip(names, row, strict=True)]
    return hashlib.sha256(json.dumps(cells, ensure_ascii=False).encode()).digest()


def rows_hash(names: Sequence[str], hashes: Iterable[bytes]) -> str:
    """Return SHA-256 (hex) over the columns' names and the rows' hashes, sorted."""
    header = json.dumps(["accord sql v1", *names], ensure_ascii=False).encode()
    whole = hashlib.sha256(hashlib.sha256(header).digest())
    for one in sorted(hashes):
        whole.update(one)
    return whole.hexdigest()


def _cell(name: str, value: object) -> str | None:
    match value:
        case None:
            return None
        case str():
            return f"s{value}"
        case bool():
            return f"b{value:d}"
        case int():
            return f"i{value}"
        case float():
            return f"f{value.hex()}"
        case Decimal():
            return f"d{value}"
        case datetime() | date() | time():
            return f"t{value.isoformat()}"
        case UUID():
            return f"u{value}"
    raise DataError(
        "sql-type",
        f"column {name!r} has a value of type {type(value).__name__}",
        hint="Cast the column to text or a number in the query, or leave it out.",
    )
