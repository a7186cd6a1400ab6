"""The servers' log: one JSON object a line on stderr; stdout stays for answers.

Guarantees: those of `accord_common.logs`; a log that cannot be written ends no work.
"""

import logging

import structlog

from accord_common.cli import LOG
from accord_common.logs import BEFORE, json_formatter, route


def log_as_json() -> None:
    """Send structlog's lines, and the libraries' warnings, to stderr."""
    structlog.configure(
        processors=[*BEFORE, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(LOG),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(LOG)
    handler.setFormatter(json_formatter())
    route([handler], logging.WARNING)
