import json
from urllib.parse import quote

import pytest

from caravel.core import redaction
from caravel.core.redaction import add_secrets, redact, redact_start

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
def test_secret_with_known_format_is_redacted_anywhere_in_line(secret):
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
        f"wallet?secret%3D{HEX}",
        f"wallet?secret\\u003d{HEX}",
        f"body=%7B%22secret%22%3A%20%22{HEX}%22%7D".replace("%20", ""),
        f"nostr walletconnect://{HEX}?secret={HEX}",
        f"nostr%252Bwalletconnect%253A%252F%252F{HEX}%253Fsecret%253D{HEX}",
        "u=https%253A%252F%252Fa.example%252Fpay%252Fin_1%252E1wX2y%252Eabcdefghijkl_-",
        "pgsql://caravel:hunter2hunter2@db/caravel",
        "password=hunter2hunter2",
        "Authorization: Bearer abcdefghijkl",
        "GET /pay/in_1.1wX2y.abcdefghijkl_-x",
        "GET /pay/in_1%2E1wX2y%2Eabcdefghijkl_-x",
        "return_url=https%3A%2F%2Fa.example%2Fpay%2Fin_1.1wX2y.abcdefghijkl_-x%3Fback",
        "postgres://caravel:hunter2hunter2@db/caravel",
        f"GET /confirm-email/{'cd' * 32}-{'ef' * 16}.1wX2y.abcdefghijkl_-x",
        f"POST /stop-email/{'cd' * 32}-{'ef' * 16}.abcdefghijkl_-x",
        f"GET /exports/{'cd' * 16}.1wX2y.abcdefghijkl_-x",
        "redis://caravel:hunter2@valkey/0",
        "redis+socket://:hunter2@/run/x",
        "smtp+tls://me%40example.com:hunter2@mail.example.com:587",
    ],
)
def test_value_with_name_of_secret_is_redacted(line):
    assert HEX not in redact(line)
    assert "hunter2" not in redact(line)
    assert "abcdefghijkl" not in redact(line)


def test_private_name_of_a_relay_is_masked():
    name = "0123456789abcdef" * 2

    assert redact(f"http://x{name}.relays.example/") == (
        "http://x[redacted].relays.example/"
    )


@pytest.mark.parametrize(
    "line",
    [
        f"payment_hash={HEX}",
        f"tenant={HEX}",
        "customer=cus_123 subscription=sub_456",
        "postgres:///caravel?host=/run/x",
        '{"url": "http://localhost:8000", "to": "me@example.com"}',
        "http://localhost:8000/?to=me@example.com",
    ],
)
def test_ids_and_hashes_are_not_redacted(line):
    assert redact(line) == line


@pytest.mark.parametrize(
    "name", ["client_secret", "secret_of_the_robot_2", "password1"]
)
def test_name_that_contains_name_of_secret_is_recognised(name):
    assert redact(f'{{"{name}": "hunter2hunter2"}}') == f'{{"{name}": "[redacted]"}}'


def test_only_start_of_long_text_is_searched_and_returned(monkeypatch):
    searched = []

    def search(text):
        searched.append(text)
        return text

    monkeypatch.setattr(redaction, "redact", search)

    start = redact_start("a" * 1_000_000, 500)

    assert start == "a" * 500 + "… (1000000 characters)"
    assert len(searched[0]) < 2_000


@pytest.mark.parametrize("position", range(420, 520, 7))
def test_secret_across_the_cut_is_not_shown_in_part(monkeypatch, position):
    monkeypatch.setattr(redaction, "_known_secrets", set())
    secret = "correct-horse-battery-staple"
    add_secrets([secret])

    for masked in ("", secret * 40):
        text = masked + "-" * position + secret + "-" * 3_000

        assert "corr" not in redact_start(text, 500)
        assert "corr" not in redact_start(text, len(masked) + 500)


@pytest.mark.parametrize("line", [json.dumps, repr, quote, lambda text: text])
def test_known_secret_is_redacted_however_the_line_is_encoded(line, monkeypatch):
    monkeypatch.setattr(redaction, "_known_secrets", set())
    secret = 'Hunter2-"wörter'
    add_secrets([secret])

    assert "Hunter2" not in redact(line(f"login with {secret} failed"))
