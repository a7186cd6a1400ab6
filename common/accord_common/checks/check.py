"""One line of a check: what was asked, the layer, what was seen, what to do.

Guarantees: a question that fails in whatever way on purpose becomes a line, and the next is asked.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from accord_common.cli import Format, emit
from accord_common.errors import AccordError

NETWORK_LAYERS = frozenset({"dns", "tcp", "proxy", "tls", "http"})
_UNREACHABLE, _FAILED = 4, 1  # exit codes


@dataclass(frozen=True, slots=True)
class Check:
    """See the module.

    Attributes:
        name: what was looked at, such as `registry`.
        layer: where it is: dns, tcp, proxy, tls, http, clock, key, version, setting, disk,
            database, lock, state, data.
        ok: whether all is well.
        detail: what was seen.
        code: stable name of the failure, or empty.
        remedy: what to do, or empty.
    """

    name: str
    layer: str
    ok: bool
    detail: str
    code: str = ""
    remedy: str = ""


def ask(name: str, layer: str, question: Callable[[], str]) -> Check:
    """Ask one question; its answer is what was seen."""
    try:
        return Check(name, layer, True, question())
    except (AccordError, OSError) as error:
        return failed(name, layer, error)


def failed(name: str, layer: str, error: AccordError | OSError) -> Check:
    """The line of an error."""
    if isinstance(error, AccordError):
        return Check(name, layer, False, error.message, error.code, error.hint)
    said = f"{error.filename or name}: {error.strerror or error}"
    return Check(name, layer, False, said, "system-error", "Check owner, mode and disk.")


def tell(checks: Iterable[Check], format_: Format) -> int:
    """Write them all; return the exit code: 0 well, 4 a connection fails, 1 anything else."""
    found = list(checks)
    lines = []
    for check in found:
        mark, code = ("ok", "") if check.ok else ("failed", f"[{check.code}] ")
        lines.append(f"{mark:<7} {check.name:<12} {check.layer:<8} {code}{check.detail}")
        if check.remedy:
            lines.append(f"{'':<29} {check.remedy}")
    bad = {check.layer for check in found if not check.ok}
    emit({"ok": not bad, "checks": [asdict(check) for check in found]}, format_, "\n".join(lines))
    if not bad:
        return 0
    return _UNREACHABLE if bad & NETWORK_LAYERS else _FAILED
