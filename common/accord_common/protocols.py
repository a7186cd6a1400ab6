"""Whether a registry speaks this release's protocol: two never mix."""

from accord_common.api.schemas import Info
from accord_common.errors import VerificationError
from accord_common.manifest import PROTOCOL


def require_protocol(info: Info) -> None:
    """Refuse a registry of another protocol; VerificationError `protocol-differs` says whose."""
    if info.protocol == PROTOCOL:
        return
    older = "this machine" if info.protocol > PROTOCOL else "the registry"
    raise VerificationError(
        "protocol-differs",
        f"the registry (release {info.version}) speaks protocol {info.protocol}, this machine "
        f"{PROTOCOL}",
        hint=f"Upgrade {older}, and restart it if that was done.",
    )
