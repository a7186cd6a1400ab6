"""What lists share: `after` and `limit`, filters; long polls add `wait`.

Guarantees: `after` is a place in an index, never a count of rows to pass over, so the last page of
a long list costs what its first does.
"""

from typing import Annotated, Any

from fastapi import Query
from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute

from accord_common.api.schemas import MAX_PAGE, MAX_WAIT_S
from accord_common.errors import UsageError
from accord_common.fields import Hash, Id

_AFTER = "the last item of the page before"

AfterSequence = Annotated[int, Query(ge=0, lt=2**53, description=_AFTER)]
AfterId = Annotated[Id | None, Query(description=_AFTER)]
AfterHash = Annotated[Hash | None, Query(description=_AFTER)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for something new")]


def equal(*wanted: tuple[InstrumentedAttribute[Any], object]) -> list[ColumnElement[bool]]:
    """Conditions for those filters that were given."""
    return [column == value for column, value in wanted if value is not None]


def split_cursor(after: str | None) -> tuple[str, str] | None:
    """Read an `after` of two parts, `first.second`; UsageError `bad-cursor`."""
    if after is None:
        return None
    first, point, second = after.partition(".")
    if not (first and point and second and after.isprintable()):  # PostgreSQL takes no NUL
        raise bad_cursor(after)
    return first, second


def bad_cursor(after: str) -> UsageError:
    """The error for an `after` that no page ended with."""
    return UsageError(
        "bad-cursor", f"after={after!r} is no item's place", hint="Give the last item's, as it was."
    )
