"""Nothing secret is logged, whatever the level and whoever logs."""

import logging
import secrets

import pytest
from cryptography.fernet import Fernet

from caravel.core.db.encrypted_text import Secret
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.tests.support import secret_scanner
from caravel.tests.support.secret_scanner import Secrets
from lightning.clients.nwc_uri import parse_nwc_url
from sandbox.wallets.secrets import tracked


@pytest.fixture
def careless(tmp_path):
    """A logger of its own, and the file that production would write of it."""
    logger = logging.getLogger("some.library")
    logger.propagate = False
    path = tmp_path / "careless.log"
    with secret_scanner.recording(path, logger):
        yield logger, path
    logger.propagate = True


@pytest.fixture
def known():
    return Secrets()


def test_a_secret_that_no_redactor_can_know_is_found(careless, known):
    logger, path = careless
    preimage = known.add(secrets.token_hex(32))
    other = secrets.token_hex(32)

    logger.debug("payment hash %s", other)
    logger.debug("the wallet says %s", preimage)
    logger.info("and again, in a longer word: 00%sFF", preimage.upper())

    found = secret_scanner.leaks([path], known)
    assert [(leak.file, leak.line, leak.logger) for leak in found] == [
        ("careless.log", 2, "some.library"),
        ("careless.log", 3, "some.library"),
    ]
    assert preimage not in repr(found).lower()
    assert "the wallet says" in found[0].text


def test_a_secret_in_a_traceback_is_found(careless, known):
    logger, path = careless
    preimage = known.add(secrets.token_hex(32))

    try:
        raise RuntimeError(f"{preimage} proves it")
    except RuntimeError:
        logger.exception("it fails")

    assert [leak.line for leak in secret_scanner.leaks([path], known)] == [1]


@pytest.mark.parametrize(
    "written",
    [
        f"nostr+walletconnect://{'ab' * 32}?relay=wss%3A%2F%2Fr.example",
        f"nostr%2Bwalletconnect%3A%2F%2F{'ab' * 32}",
        "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
        "sk_test_51abcdefghijklmnop",
        "whsec_abcdefghijklmnop",
        Fernet(Fernet.generate_key()).encrypt(b"it").decode(),
    ],
)
def test_what_has_the_form_of_a_secret_is_found_unless_it_was_masked(
    careless, known, tmp_path, written
):
    logger, masked = careless
    logger.debug("it says %s", written)
    raw = tmp_path / "raw.log"
    raw.write_text(f"it says {written}\n")

    assert secret_scanner.leaks([masked], known) == []
    (found,) = secret_scanner.leaks([raw], known)
    assert (found.file, found.line, found.logger) == ("raw.log", 1, "?")
    assert written not in found.text


def test_every_secret_of_a_run_is_known(settings):
    key, sealed, read = (generate_secret_key() for _ in range(3))
    Secret.seal(f"nostr+walletconnect://{'ab' * 32}?secret={sealed}")
    address = f"nostr+walletconnect://{pubkey_of(key)}?relay=wss://r.example"
    parse_nwc_url(f"{address}&secret={read}")

    line = f"{key} {sealed} {read} {settings.SECRET_KEY} {settings.STRIPE_SECRET_KEY}"

    assert set(secret_scanner.secrets.found_in(line)) == set(line.split())
    assert secret_scanner.secrets.found_in(f"{pubkey_of(key)} {'ab' * 32}") == []


@pytest.mark.last
def test_nothing_secret_was_logged():
    """Of all that came before this: the run, its workers, and the messages to them."""
    for secret in tracked:
        secret_scanner.secrets.add(secret)
    mark = secrets.token_hex(8)
    logging.getLogger("any.library").debug("%s", mark)

    run = next(path for path in secret_scanner.files if path.name == "run.log")
    assert mark in run.read_text()
    assert secret_scanner.leaks(secret_scanner.files, secret_scanner.secrets) == []
