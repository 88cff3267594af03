import io
import logging
import os
import subprocess
import sys

import pytest
import structlog

from caravel.core.redaction import redact

HEX = "ab" * 32


@pytest.mark.parametrize(
    "secret",
    [
        f"nostr%2Bwalletconnect%3A%2F%2F{HEX}%3Fsecret%3D{HEX}",
        f"nostr+walletconnect://{HEX}?relay=wss%3A%2F%2Fr.example&secret={HEX}",
        "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
        "sk_live_51abcdefghijklmnop",
        "rk_test_51abcdefghijklmnop",
        "whsec_abcdefghijklmnop",
        "gAAAAABm" + "x" * 60 + "==",
    ],
)
def test_a_secret_is_masked_wherever_it_stands(secret):
    for line in (secret, f"before {secret} after", f'{{"url": "{secret}"}}'):
        assert secret not in redact(line)
        assert "[redacted]" in redact(line)


@pytest.mark.parametrize(
    "line",
    [
        f"preimage={HEX}",
        f'"preimage": "{HEX}"',
        f"'secret': '{HEX}'",
        f'\\"client_secret\\": \\"{HEX}\\"',
        f"preimage=b'{HEX}'",
        "pgsql://caravel:hunter2hunter2@db/caravel",
        "password=hunter2hunter2",
        "Authorization: Bearer abcdefghijkl",
        "GET /pay/in_1.1wX2y.abcdefghijkl_-x",
        "GET /pay/in_1%2E1wX2y%2Eabcdefghijkl_-x",
        "return_url=https%3A%2F%2Fa.example%2Fpay%2Fin_1.1wX2y.abcdefghijkl_-x%3Fback",
        "postgres://caravel:hunter2hunter2@db/caravel",
    ],
)
def test_a_value_named_secret_is_masked(line):
    assert HEX not in redact(line)
    assert "hunter2" not in redact(line)
    assert "abcdefghijkl" not in redact(line)


@pytest.mark.parametrize(
    "line",
    [
        f"payment_hash={HEX}",
        f"tenant={HEX}",
        "customer=cus_123 subscription=sub_456",
        "postgres:///caravel?host=/run/x",
    ],
)
def test_what_support_needs_stays_readable(line):
    assert redact(line) == line


def test_our_own_keys_are_masked_in_every_logger_and_traceback(settings):
    secrets = [settings.SECRET_KEY, *settings.ENCRYPTION_KEYS]

    written = io.StringIO()
    (handler,) = (
        found
        for found in logging.getLogger().handlers
        if type(found) is logging.StreamHandler
    )
    stream = handler.setStream(written)
    try:
        raise RuntimeError(f"failed with {secrets[0]}")
    except RuntimeError:
        logging.getLogger("some.library").exception("oh %s", secrets[1])
        structlog.get_logger("ours").exception("event", value=secrets[1])
    finally:
        handler.setStream(stream)

    assert "oh [redacted]" in written.getvalue()
    assert "RuntimeError" in written.getvalue()
    assert not any(secret in written.getvalue() for secret in secrets)


RAISE = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "caravel.settings"
django.setup()
import structlog
hidden = "-".join(["not", "to", "be", "shown"])
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("caravel").exception("it_failed")
"""


def test_a_traceback_on_the_screen_shows_no_values(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "CARAVEL_ENV"}
    environment |= {"DEBUG": "true", "CARAVEL_VAR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", RAISE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "ZeroDivisionError" in done.stderr + done.stdout
    assert "not-to-be-shown" not in done.stderr + done.stdout
