"""Structured logs in which no secret appears.

The last step of every line, tracebacks included, is `redact`: whatever a library or a
careless call wrote into it, keys and wallet addresses leave as `[redacted]`.
"""

import logging.config
import re
from collections.abc import Iterable
from typing import Any

import structlog

_MASK = "[redacted]"
_PATTERNS = [
    re.compile(r"(nostr(?:\+|%2B)?walletconnect(?::|%3A))[^\s\"'<>]+", re.IGNORECASE),
    re.compile(r"()nsec1[02-9ac-hj-np-z]{20,}", re.IGNORECASE),
    re.compile(r"((?:sk|rk)_(?:test|live)_)\w+"),
    re.compile(r"(whsec_)[\w+/=]+"),
    re.compile(r"()gAAAAA[\w-]{40,}={0,2}"),  # a Fernet token
    re.compile(
        r"((?:postgres(?:ql)?|pgsql)://[^:@/\s]+:|rediss?://[^:@/\s]*:)[^@/\s]+(?=@)"
    ),
    # Whoever has such a link may pay by it; it may stand in another address.
    re.compile(r"((?:/|%2F)pay(?:/|%2F)[\w-]+(?:\.|%2E))[\w.%-]{8,}", re.IGNORECASE),
    re.compile(r"(Bearer |Basic |Nostr )[\w+/=.-]{8,}"),
    re.compile(
        r"((?:secret|preimage|password|nwc_url|private_key)\w*[\\\\\"']*\s*[:=]\s*b?[\\\\\"']*)"
        r"[0-9a-zA-Z+/_.-]{8,}=*",
        re.IGNORECASE,
    ),
]
_known: set[str] = set()


def redact(text: str) -> str:
    """Return the text with every secret in it masked."""
    for secret in _known:
        text = text.replace(secret, _MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{_MASK}", text)
    return text


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Masks secrets in the finished line."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(*, level: str, as_json: bool, secrets: Iterable[str]) -> None:
    """Set up structlog and the standard library's logging, both to standard error.

    `secrets` are masked wherever they appear, whatever they look like.
    """
    _known.update(secret for secret in secrets if len(secret) >= 8)
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
            structlog.processors.JSONRenderer(default=str),
        ]
        if as_json
        # With rich at hand, structlog would show the values of all local variables.
        else [
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": RedactingFormatter,
                "foreign_pre_chain": shared,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *renderer,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Every Stripe request at INFO, with its parameters, is too much.
            "stripe": {"level": "WARNING"},
            # Each connection more or less is no news.
            "psycopg.pool": {"level": "WARNING"},
            # Each frame of a relay, and each name that a template lacks.
            "websockets": {"level": "INFO"},
            "django.template": {"level": "INFO"},
            # The lines of django-structlog say the same with more context.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "django.server": {"handlers": [], "propagate": True},
        },
    }
