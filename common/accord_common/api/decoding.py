"""From the registry's answers to models."""

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from accord_common.errors import FormatError

_Model = TypeVar("_Model", bound=BaseModel)
_ITEMS: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(list[dict[str, Any]])


def decode(model: type[_Model], response: httpx.Response) -> _Model:
    """Read one; FormatError `bad-answer`."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise _bad_answer(model, error) from error


def decode_list(model: type[_Model], response: httpx.Response) -> list[_Model]:
    """Read a list; FormatError `bad-answer`."""
    try:
        return [model.model_validate(item) for item in _ITEMS.validate_json(response.content)]
    except ValidationError as error:
        raise _bad_answer(model, error) from error


def _bad_answer(model: type[BaseModel], error: ValidationError) -> FormatError:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return FormatError(
        "bad-answer",
        f"the registry's answer is no {model.__name__}: {where}: {first['msg']}",
        hint="Registry and client may be of different releases.",
    )
