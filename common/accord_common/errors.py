"""Every error that Accord raises on purpose.

    AccordError
    |- UsageError         the caller asked for something impossible      400  exit 2
    |- FormatError        bytes that do not decode strictly              400  exit 5
    |- VerificationError  a signature, hash or chain that does not hold  422  exit 5
    |  `- DamageError     a file of this node's own                     422  exit 5
    |- PolicyError        an agreement, budget or role forbids it        403  exit 3
    |- AuthError          no valid credential                            401  exit 3
    |- NotFoundError      no such thing                                  404  exit 1
    |- ConflictError      the state does not allow it now                409  exit 1
    |- DataError          a table or file that breaks its contract       422  exit 1
    |- ProtocolError      a peer that breaks the round protocol          409  exit 5
    `- TransportError     a peer that cannot be reached                  503  exit 4
       `- LimitError      asked too often; later it may be right         429  exit 4

The code is stable and kebab-case: programs match on it, people search for it. The message names the
thing, its value and its bound; the hint says what to do next.
"""

from http import HTTPStatus
from typing import ClassVar


class AccordError(Exception):
    """Base of all deliberate failures; carries what HTTP, the CLI and logs need.

    Args:
        code: stable kebab-case identifier, e.g. `"budget-exceeded"`.
        message: what happened, with name, value and bound.
        hint: what to do next; empty where nothing useful can be said.
    """

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        tail = f" {self.hint}" if self.hint else ""
        return f"[{self.code}] {self.message}{tail}"


class UsageError(AccordError):
    """The caller asked for something that cannot be done as asked."""

    status = HTTPStatus.BAD_REQUEST
    exit_code = 2


class FormatError(AccordError):
    """Bytes that do not decode strictly: size, type, unknown field, trailing bytes."""

    status = HTTPStatus.BAD_REQUEST
    exit_code = 5


class VerificationError(AccordError):
    """A signature, hash or predecessor that does not hold."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    exit_code = 5


class DamageError(VerificationError):
    """A file of this node's own is damaged; the message names its path and leaves no node."""


class PolicyError(AccordError):
    """Forbidden by an agreement, a budget, or the caller's role."""

    status = HTTPStatus.FORBIDDEN
    exit_code = 3


class AuthError(AccordError):
    """No valid credential was presented."""

    status = HTTPStatus.UNAUTHORIZED
    exit_code = 3


class NotFoundError(AccordError):
    """The named thing does not exist, or the caller may not know that it does."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(AccordError):
    """The present state does not allow it; the same call may be right later."""

    status = HTTPStatus.CONFLICT


class DataError(AccordError):
    """A table, file or schema that breaks its contract."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class ProtocolError(AccordError):
    """A peer that breaks the round protocol."""

    status = HTTPStatus.CONFLICT
    exit_code = 5


class TransportError(AccordError):
    """A peer that cannot be reached, or is not who it must be."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    exit_code = 4


class LimitError(TransportError):
    """Asked too often: the same call may be made after `retry_s` seconds."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, code: str, message: str, *, hint: str = "", retry_s: int = 1) -> None:
        super().__init__(code, message, hint=hint)
        self.retry_s = retry_s
