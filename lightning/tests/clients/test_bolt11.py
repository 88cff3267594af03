"""BOLT 11's examples, and hostile invoices with valid signatures."""

from datetime import UTC, datetime, timedelta

import pytest
from bech32 import CHARSET, bech32_decode, bech32_encode, convertbits
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning.clients.bolt11 import MAX_LENGTH, Bolt11, decode
from lightning.exceptions import InvalidBolt11

# BOLT 11, examples: all are signed with this key.
KEY = PrivateKey.from_hex(
    "e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734"
)
PAYEE = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"
HASH = "0001020304050607080900010203040506070809000102030405060708090102"
SECRET = "1" * 64
COFFEE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqc"
    "yq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0r"
    "l77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39"
    "tuven09sam30g4vgpfna3rh"
)
CREATED = datetime(2017, 6, 1, 10, 57, 38, tzinfo=UTC)


def words(data, size=None):
    """Return bytes or a number as five-bit words."""
    if isinstance(data, bytes):
        return convertbits(data, 8, 5) or []
    return [(data >> 5 * place) & 31 for place in reversed(range(size))]


def field(letter, values):
    return [CHARSET.index(letter), *words(len(values), 2), *values]


def signed_invoice(prefix="lnbc2500u", fields=None, timestamp=1_496_314_658):
    """Return an invoice with a valid signature and checksum."""
    data = [*words(timestamp, 7), *(usual_fields() if fields is None else fields)]
    message = prefix.encode() + bytes(convertbits(data, 5, 8) or [])
    return bech32_encode(prefix, [*data, *words(KEY.sign_recoverable(message))])


def usual_fields(**changes):
    """Return the usual fields of an invoice, with changes."""
    fields = {
        "p": words(bytes.fromhex(HASH)),
        "s": words(bytes.fromhex(SECRET)),
        "d": words("ナンセンス 1杯".encode()),
        **changes,
    }
    return [
        value
        for letter, values in fields.items()
        if values is not None
        for value in field(letter, values)
    ]


def test_example_of_the_specification_is_decoded():
    assert decode(COFFEE) == Bolt11(
        text=COFFEE,
        network="bc",
        payment_hash=HASH,
        amount_msat=250_000_000,
        created_at=CREATED,
        expires_at=CREATED + timedelta(seconds=60),
        description="1 cup coffee",
        payee=PAYEE,
    )


@pytest.mark.parametrize(
    "text",
    [
        COFFEE.upper(),
        f"lightning:{COFFEE}",
        f"LIGHTNING:{COFFEE.upper()}",
        f"lightning:{COFFEE.upper()}",
        f" {COFFEE}\n",
    ],
)
def test_case_and_scheme_do_not_matter(text):
    assert decode(text) == decode(COFFEE)


@pytest.mark.parametrize(
    ("prefix", "network", "amount_msat"),
    [
        ("lnbc", "bc", None),
        ("lnbcrt", "bcrt", None),
        ("lntb1m", "tb", 100_000_000),
        ("lntbs20u", "tbs", 2_000_000),
        ("lnbc1", "bc", 100_000_000_000),
        ("lnbc2000", "bc", 200_000_000_000_000),
        ("lnbc21000000", "bc", 2_100_000_000_000_000_000),
        ("lnbcrt3n", "bcrt", 300),
        ("lnbc10p", "bc", 1),
        ("lnbc9678785340p", "bc", 967_878_534),
    ],
)
def test_networks_and_amounts_are_exact(prefix, network, amount_msat):
    invoice = decode(signed_invoice(prefix))

    assert (invoice.network, invoice.amount_msat) == (network, amount_msat)
    assert (invoice.description, invoice.payee) == ("ナンセンス 1杯", PAYEE)


@pytest.mark.parametrize(
    "prefix",
    [
        "lnbc0m",
        "lnbc0",
        "lnbc2500x",
        "lnbc25m00",
        "lnbc02500u",
        "lnbc-2500u",
        "lnbc2500u-9",
        "lnbc2.5m",
        "lnbc1p",
        "lnbc15p",
        "lnbc21000001",
        f"lnbc{'9' * 60}",
        "lnxx2500u",
        "ln2500u",
        "bc2500u",
    ],
)
def test_impossible_amount_or_network_is_refused(prefix):
    with pytest.raises(InvalidBolt11):
        decode(signed_invoice(prefix))


@pytest.mark.parametrize(
    ("expiry", "seconds"),
    [
        (None, 3600),
        (words(60, 2), 60),
        (words(0, 1), 0),
        (words(31_536_000, 7), 31_536_000),
    ],
)
def test_expiry_is_decoded(expiry, seconds):
    invoice = decode(signed_invoice(fields=usual_fields(x=expiry)))

    assert invoice.created_at == CREATED
    assert invoice.expires_at == CREATED + timedelta(seconds=seconds)


def test_payee_field_must_match_the_signature():
    other_key = PrivateKey().public_key.format()

    assert (
        decode(signed_invoice(fields=usual_fields(n=words(bytes.fromhex(PAYEE))))).payee
        == PAYEE
    )
    with pytest.raises(InvalidBolt11):
        decode(signed_invoice(fields=usual_fields(n=words(other_key))))


def test_description_can_be_a_hash():
    fields = usual_fields(d=None, h=words(bytes.fromhex(SECRET)))

    assert decode(signed_invoice(fields=fields)).description is None


@pytest.mark.parametrize(
    "fields",
    [
        [],
        usual_fields(p=None),
        usual_fields(s=None),
        usual_fields(d=None),
        usual_fields(p=words(b"short")),
        usual_fields(d=words(b"\xff\xfe")),
        usual_fields(x=[]),
        usual_fields(x=[31] * 20),
        usual_fields(f=[]),
        [*usual_fields(), CHARSET.index("d")],
        [*usual_fields(), CHARSET.index("d"), 31, 31, 0],
    ],
)
def test_missing_and_malformed_fields_are_refused(fields):
    with pytest.raises(InvalidBolt11) as caught:
        decode(signed_invoice(fields=fields))

    assert (caught.value.code, caught.value.status) == ("bolt11-invalid", 422)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "lightning:",
        "ln",
        "lnbc1",
        None,
        17,
        b"lnbc1",
        {"invoice": COFFEE},
        COFFEE[:-1],
        COFFEE[:-1] + "i",
        COFFEE.replace("lnbc", "lntb", 1),
        COFFEE.capitalize(),
        COFFEE[:40] + COFFEE[40:].upper(),
        f"lightning:lightning:{COFFEE}",
        COFFEE.replace("k", "\u212a", 1),
        f"{COFFEE}\ud800",
        signed_invoice(fields=[*usual_fields(), *field("r", [0] * 1023) * 8]),
        "lnbc1" + "q" * 10_000_000,
    ],
    ids=lambda text: repr(text)[:20],
)
def test_text_that_is_no_invoice_is_refused_and_not_repeated(text):
    with pytest.raises(InvalidBolt11) as caught:
        decode(text)

    assert len(str(caught.value)) < 100
    assert COFFEE[4:40] not in str(caught.value).lower()


def test_invoice_of_the_maximum_length_is_decoded():
    filler = field("r", [0] * 1023) * 6
    space = MAX_LENGTH - len(
        signed_invoice(fields=[*usual_fields(), *filler, *field("r", [])])
    )

    text = signed_invoice(fields=[*usual_fields(), *filler, *field("r", [0] * space)])

    assert len(text) == MAX_LENGTH
    assert decode(text).payment_hash == HASH


def decode_or_none(text):
    """Return the decoded invoice, None if it is invalid."""
    try:
        return decode(text)
    except InvalidBolt11:
        return None


@settings(deadline=None)
@given(st.text())
def test_no_text_raises_another_error(text):
    assert decode_or_none(text) is None


@settings(deadline=None)
@given(st.integers(0, len(COFFEE) - 1), st.characters(), st.sampled_from([0, 1]))
def test_change_of_one_character_is_detected(place, character, replaced):
    text = COFFEE[:place] + character + COFFEE[place + replaced :]

    assert decode_or_none(text) in (None, decode(COFFEE))


@settings(deadline=None)
@given(st.data())
def test_changes_with_a_valid_checksum_raise_no_other_error(data):
    prefix, values = bech32_decode(COFFEE)
    assert prefix
    assert values
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(values) - 1))
        values[place] = data.draw(st.integers(0, 31))
    cut = data.draw(st.integers(0, 3)) and data.draw(st.integers(1, len(values)))

    text = bech32_encode(prefix, values[: cut or None])
    invoice = decode_or_none(text)

    # A changed invoice has another payee than the requested one.
    assert invoice is None or invoice.payee != PAYEE or text == COFFEE


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**35 - 1))
def test_signed_nonsense_raises_no_other_error(content, timestamp):
    fields = [*usual_fields(), *words(content)]
    invoice = decode_or_none(signed_invoice(fields=fields, timestamp=timestamp))

    assert invoice is None or invoice.expires_at >= invoice.created_at
