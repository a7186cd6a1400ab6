"""The servers' log: one JSON object a line on stderr; stdout stays for answers.

Guarantees: a traceback is logged without local variables, which may hold tokens, invitation codes
and keys; a log that cannot be written ends no work.
"""

import logging

import structlog

from accord_common.cli import LOG


def log_as_json() -> None:
    """Send structlog's lines, and the libraries' warnings, to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # not `dict_tracebacks`: it adds local variables
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(LOG),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(LOG)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
