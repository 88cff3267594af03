"""The examples of BOLT 11, valid and invalid; their source is named in the file."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lightning.clients.bolt11 import Bolt11, decode
from lightning.exceptions import InvalidBolt11
from lightning.tests.clients.test_bolt11 import (
    PAYEE,
    field,
    signed_invoice,
    usual_fields,
    words,
)

VECTORS = json.loads(
    (Path(__file__).parents[1] / "fixtures/bolt11.json").read_text(encoding="utf-8")
)
UNREADABLE = "This is not a Lightning invoice."
NO_AMOUNT = "This Lightning invoice has no readable amount or network."
REPEATED = "This Lightning invoice repeats a field."
REFUSALS = {
    "Same as coffee beans, but with fields of a wrong length": (
        "This Lightning invoice has a field of a wrong length."
    ),
    "Two distinct p fields in an otherwise valid invoice": REPEATED,
    "The same p field twice in an otherwise valid invoice": REPEATED,
    "Same as coffee beans, but adding unknown required feature 100": (
        "This Lightning invoice requires an unknown feature."
    ),
    "Bech32 checksum is invalid": UNREADABLE,
    "Malformed bech32 string (no 1)": NO_AMOUNT,
    "Malformed bech32 string (mixed case)": (
        "This Lightning invoice mixes upper and lower case."
    ),
    "Signature is not recoverable": UNREADABLE,
    "String is too short": UNREADABLE,
    "Invalid multiplier": NO_AMOUNT,
    "Invalid sub-millisatoshi precision": (
        "This Lightning invoice has an impossible amount."
    ),
    "Missing required s field": UNREADABLE,
    "Non canonical signature (high-S) with 'n' field defined": UNREADABLE,
}


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda v: v["name"])
def test_valid_example_is_decoded(vector):
    created_at = datetime.fromtimestamp(vector["created_at"], UTC)

    assert decode(vector["invoice"]) == Bolt11(
        text=vector["invoice"].lower(),
        network=vector["network"],
        payment_hash=vector["payment_hash"],
        amount_msat=vector["amount_msat"],
        created_at=created_at,
        expires_at=created_at + timedelta(seconds=vector["expiry"]),
        description=vector["description"],
        payee=vector["payee"],
    )


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda v: v["name"])
def test_invalid_example_is_refused(vector):
    with pytest.raises(InvalidBolt11) as caught:
        decode(vector["invoice"])

    assert caught.value.message == REFUSALS[vector["name"]]


# Two readers could use different ones: https://github.com/lightning/bolts/pull/1357
@pytest.mark.parametrize(
    ("letter", "values"),
    [
        ("p", words(b"\x01" * 32)),
        ("s", words(b"\x01" * 32)),
        ("n", words(bytes.fromhex(PAYEE))),
        ("d", words(b"another purpose")),
        ("h", words(b"\x01" * 32)),
        ("x", words(60, 2)),
    ],
)
def test_field_of_which_readers_use_one_must_not_be_repeated(letter, values):
    fields = [*usual_fields(), *field(letter, values), *field(letter, values)]

    with pytest.raises(InvalidBolt11, match="repeats a field"):
        decode(signed_invoice(fields=fields))


@pytest.mark.parametrize(
    ("bit", "accepted"),
    [(8, True), (14, True), (48, True), (99, True), (62, False), (100, False)],
)
def test_only_known_features_can_be_required(bit, accepted):
    fields = usual_fields(**{"9": words(1 << bit, 21)})

    if accepted:
        assert decode(signed_invoice(fields=fields)).amount_msat == 250_000_000
    else:
        with pytest.raises(InvalidBolt11, match="unknown feature"):
            decode(signed_invoice(fields=fields))
