"""Test that logs a secret, for a run of its own: pytest collects it only by name."""

import logging
import secrets

from caravel.tests.support import secret_scanner


def test_that_logs_secret() -> None:
    secret = secret_scanner.secrets.add(secrets.token_hex(32))
    logging.getLogger("any.library").debug("%s", secret)
