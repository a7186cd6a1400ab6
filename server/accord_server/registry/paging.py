"""Query parameters that lists share: `after` and `limit`; long polls add `wait`."""

from typing import Annotated

from fastapi import Query

from accord_common.api.schemas import MAX_PAGE, MAX_WAIT_S
from accord_common.fields import Hash, Id

_AFTER = "the last item of the page before"

AfterSequence = Annotated[int, Query(ge=0, lt=2**53, description=_AFTER)]
AfterId = Annotated[Id | None, Query(description=_AFTER)]
AfterHash = Annotated[Hash | None, Query(description=_AFTER)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for something new")]
