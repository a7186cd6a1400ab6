"""The servers' log: one JSON object a line on stderr, or in a file; stdout stays for answers.

Guarantees: those of `accord_common.logs`.
"""

from accord_common import logs
from accord_common.logs import LogFile


def log_as_json(file: LogFile | None = None, *, debug: bool = False) -> None:
    """Send all logs to stderr, and to `file` where there is one."""
    logs.configure(file, debug=debug)
