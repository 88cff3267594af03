"""Tests that log, for runs of their own: pytest collects them only by name."""

import logging
import secrets

from caravel.tests.support import secret_scanner


def test_that_logs_secret() -> None:
    secret = secret_scanner.secrets.add(secrets.token_hex(32))
    logging.getLogger("any.library").debug("%s", secret)


def test_that_logs_nothing() -> None:
    secret_scanner.secrets.add(secrets.token_hex(32))
