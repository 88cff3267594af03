"""No secret is logged at any level by any logger."""

import logging
import os
import secrets
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet

from caravel.core.db.encrypted_text import Secret
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.tests.support import secret_scanner
from caravel.tests.support.secret_scanner import Secrets
from lightning.clients.nwc_uri import parse_nwc_url


@pytest.fixture
def library_logger(tmp_path):
    """A separate logger, and the log file that production would write."""
    logger = logging.getLogger("some.library")
    logger.propagate = False
    path = tmp_path / "library.log"
    with secret_scanner.recording(path, logger):
        yield logger, path
    logger.propagate = True


@pytest.fixture
def secret_set():
    return Secrets()


def test_scanner_finds_secret_that_redaction_cannot_recognise(
    library_logger, secret_set
):
    logger, path = library_logger
    preimage = secret_set.add(secrets.token_hex(32))
    other = secrets.token_hex(32)

    logger.debug("payment hash %s", other)
    logger.debug("the wallet says %s", preimage)
    logger.info("and again, in a longer word: 00%sFF", preimage.upper())

    leaks = secret_scanner.find_leaks([path], secret_set)
    assert [(leak.file, leak.line, leak.logger) for leak in leaks] == [
        ("library.log", 2, "some.library"),
        ("library.log", 3, "some.library"),
    ]
    assert preimage not in repr(leaks).lower()
    assert "the wallet says" in leaks[0].text


def test_scanner_finds_secret_in_traceback(library_logger, secret_set):
    logger, path = library_logger
    preimage = secret_set.add(secrets.token_hex(32))

    try:
        raise RuntimeError(f"{preimage} proves it")
    except RuntimeError:
        logger.exception("it fails")

    assert [leak.line for leak in secret_scanner.find_leaks([path], secret_set)] == [1]


@pytest.mark.parametrize(
    "secret",
    [
        f"nostr+walletconnect://{'ab' * 32}?relay=wss%3A%2F%2Fr.example",
        f"nostr%2Bwalletconnect%3A%2F%2F{'ab' * 32}",
        "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
        "sk_test_51abcdefghijklmnop",
        "whsec_abcdefghijklmnop",
        pytest.param(Fernet(Fernet.generate_key()).encrypt(b"it").decode(), id="token"),
    ],
)
def test_scanner_finds_known_formats_unless_redacted(
    library_logger, secret_set, tmp_path, secret
):
    logger, masked = library_logger
    logger.debug("it says %s", secret)
    raw = tmp_path / "raw.log"
    raw.write_text(f"it says {secret}\n")

    assert secret_scanner.find_leaks([masked], secret_set) == []
    (leak,) = secret_scanner.find_leaks([raw], secret_set)
    assert (leak.file, leak.line, leak.logger) == ("raw.log", 1, "?")
    assert secret not in leak.text


def test_generated_encrypted_and_parsed_secrets_are_known_to_scanner(settings):
    generated, encrypted, parsed = (generate_secret_key() for _ in range(3))
    Secret.seal(f"nostr+walletconnect://{'ab' * 32}?secret={encrypted}")
    address = f"nostr+walletconnect://{pubkey_of(generated)}?relay=wss://r.example"
    parse_nwc_url(f"{address}&secret={parsed}")

    keys = [generated, encrypted, parsed]
    line = " ".join([*keys, settings.SECRET_KEY, settings.STRIPE_SECRET_KEY])

    assert set(secret_scanner.secrets.find_in(line)) == set(line.split())
    assert secret_scanner.secrets.find_in(f"{pubkey_of(generated)} {'ab' * 32}") == []


def test_run_fails_when_a_worker_logs_a_secret(settings):
    test = "caravel/tests/support/logging_tests.py::test_that_logs_secret"
    # Other plugins take most of the time to import.
    needed = ("pytest_django.plugin", "pytest_socket", "xdist.plugin")
    plugins = [part for name in needed for part in ("-p", name)]
    options = ["-p", "no:cacheprovider", *plugins, "-n", "1"]

    # It uses no servers, and starts none, since their URLs are in the environment.
    process = subprocess.run(
        [sys.executable, "-m", "pytest", *options, test],
        cwd=settings.BASE_DIR,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert process.returncode == 1
    assert "1 passed, 1 error" in process.stdout
    assert "is secret]" in process.stdout
