"""What every part of the registry's client asks with: one object, a page, a whole list."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel

from accord_common.api import schemas as s
from accord_common.api.decoding import decode, decode_list
from accord_common.api.http import Connection
from accord_common.errors import FormatError

Model = TypeVar("Model", bound=BaseModel)
Query = Mapping[str, str | int | float | None]


class Calls:
    """Base of the classes that make up `RegistryClient`, each of one domain's calls."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def _get(self, model: type[Model], path: str) -> Model:
        return decode(model, self._http.request("GET", path, again=True))

    def _post(
        self, model: type[Model], path: str, body: BaseModel | None, *, again: bool = False
    ) -> Model:
        json = None if body is None else body.model_dump(mode="json")
        return decode(model, self._http.request("POST", path, json=json, again=again))

    def _page(
        self, model: type[Model], path: str, query: Query, *, wait_s: float = 0.0
    ) -> list[Model]:
        params = {"limit": s.MAX_PAGE, **query}
        response = self._http.request("GET", path, params=params, wait_s=wait_s, again=True)
        return decode_list(model, response)

    def _counted(
        self, model: type[Model], path: str, after: Callable[[list[Model]], int]
    ) -> list[Model]:
        """All pages of a list whose `after` is a number; `after` tells it from what was found."""
        found: list[Model] = []
        while True:
            page = self._page(model, path, {"after": after(found)})
            found += page
            if len(page) < s.MAX_PAGE:
                return found

    def _all(
        self,
        model: type[Model],
        path: str,
        key: Callable[[Model], str],
        query: Query | None = None,
    ) -> list[Model]:
        """All pages of a list whose `after` is the key of the last item."""
        found: list[Model] = []
        after: str | None = None
        while True:
            page = self._page(model, path, {**(query or {}), "after": after})
            found += page
            if len(page) < s.MAX_PAGE:
                return found
            last = key(page[-1])
            if after is not None and last <= after:
                raise FormatError("bad-answer", f"{path} lists out of order: {last} after {after}")
            after = last
