"""Structured logging without secrets.

Every finished line, including tracebacks and lines logged by libraries, passes
`caravel.core.redaction.redact`. Long texts are cut before: strangers send them.
"""

import logging.config
from collections.abc import Iterable
from typing import Any

import structlog

from caravel.core.redaction import add_secrets, redact, redact_start

#: Maximum length of a value in a line, and of a traceback.
MAX_VALUE = 2_000
MAX_TRACEBACK = 32_000


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Masks secrets in the formatted line."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def cut_long_texts(
    logger: Any, method: str, event_dict: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Cut each long text of a line, and redact what is left of it."""
    for name, value in event_dict.items():
        limit = MAX_TRACEBACK if name == "exception" else MAX_VALUE
        if isinstance(value, str) and len(value) > limit:
            event_dict[name] = redact_start(value, limit)
    return event_dict


def shorten_bad_requests(
    logger: Any, method: str, event_dict: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Make a warning of one line of a request that Django calls suspicious.

    Any scanner sends those, for instance with a wrong Host.
    """
    if event_dict.get("logger", "").startswith("django.security."):
        event_dict.pop("exc_info", None)
        event_dict["level"] = "warning"
    return event_dict


def configure(*, level: str, as_json: bool, secrets: Iterable[str]) -> None:
    """Set up structlog and the standard library's logging, both to standard error.

    The values in `secrets` are masked in addition to the known patterns.
    """
    add_secrets(secrets)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(_standard_library(level, shared, as_json))


def _standard_library(level: str, shared: list[Any], as_json: bool) -> dict[str, Any]:
    renderer: list[Any] = (
        [
            structlog.processors.format_exc_info,
            cut_long_texts,
            structlog.processors.JSONRenderer(default=str),
        ]
        if as_json
        # structlog uses rich if it is installed, which prints all local variables.
        else [
            cut_long_texts,
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": RedactingFormatter,
                "foreign_pre_chain": [*shared, shorten_bad_requests],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *renderer,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # At INFO it logs every request with its parameters.
            "stripe": {"level": "WARNING"},
            # At INFO it logs each connection that the pool opens or closes.
            "psycopg.pool": {"level": "WARNING"},
            # At INFO it logs every step of embedding a font in a PDF.
            "fontTools": {"level": "WARNING"},
            # At DEBUG: each frame of a relay, and each missing template variable.
            "websockets": {"level": "INFO"},
            "django.template": {"level": "INFO"},
            # django-structlog logs the same events with more context.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            "celery.beat": {"level": "WARNING"},
            "django.server": {"handlers": [], "propagate": True},
        },
    }
