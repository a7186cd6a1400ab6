"""Lists as bytes: JSON, or CSV.

What a list holds was validated when it was written; FastAPI would validate it again, row by row,
and take longer for it than the query does. `response_model` documents it all the same, and tests
hold answers to the document.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, TypeAdapter
from starlette.responses import Response

from accord_common.api.rows import to_csv

ListFormat = Annotated[
    Literal["json", "csv"], Query(alias="format", description="csv has a header line")
]
# What FastAPI is to write into its document beside the JSON that `response_model` describes.
LISTED: dict[int | str, dict[str, object]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}}
}

_JSON = TypeAdapter(list[BaseModel])
_PLAIN = TypeAdapter(list[Mapping[str, object]])


def as_json(rows: Sequence[Mapping[str, object]]) -> Response:
    """Write rows that are dicts already."""
    return Response(_PLAIN.dump_json(list(rows)), media_type="application/json")


def listed(model: type[BaseModel], rows: Sequence[BaseModel], format_: str) -> Response:
    """Write rows of one model; the CSV has a column for each of its fields."""
    if format_ == "csv":
        return Response(to_csv(model, rows), media_type="text/csv")
    return Response(
        _JSON.dump_json(list(rows), serialize_as_any=True), media_type="application/json"
    )
