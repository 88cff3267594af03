"""BOLT 11: decoding of Lightning invoices.

https://github.com/lightning/bolts/blob/master/11-payment-encoding.md
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import bolt11

from lightning.exceptions import InvalidBolt11

#: The capacity of a QR code in characters: wallets cannot scan longer invoices.
MAX_LENGTH = 7_089
_MAX_MSAT = 21_000_000 * 10**11
_SCHEME = "lightning:"
# No leading zeros, and no amount of zero.
_PREFIX = re.compile(r"ln(bcrt|bc|tbs|tb)(?:([1-9]\d*)([munp]?))?")
_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # bech32 (BIP 173)
#: Characters of the timestamp, and of the signature with the checksum.
_TIMESTAMP, _SIGNATURE = 7, 104 + 6
#: Lengths of the fields that have a fixed one, in characters.
_LENGTHS = {"p": 52, "h": 52, "s": 52, "n": 53}
#: Fields that an invoice has once at most.
_SINGLE = frozenset("psndhx")
#: Features that an invoice can require (BOLT 9, context 9): the even bits.
_KNOWN_FEATURES = frozenset({8, 14, 16, 24, 36, 48})
# In tenths of a millisatoshi: the multiplier "p" is a tenth of one.
_UNITS = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}


@dataclass(frozen=True)
class Bolt11:
    """A signed invoice; `payee` is the key that signed it, keys and hashes are hex.

    Anyone can change an invoice and sign it with another key: compare a requested one
    with the request.
    """

    #: Lower case, without `lightning:`.
    text: str
    #: `bc`, `tb`, `tbs` or `bcrt`.
    network: str
    payment_hash: str
    #: None if the payer chooses the amount.
    amount_msat: int | None
    created_at: datetime
    expires_at: datetime
    #: None if the invoice has only its hash.
    description: str | None
    payee: str


def decode(text: object) -> Bolt11:
    """Decode an invoice, in upper or lower case, with or without `lightning:`.

    Raises InvalidBolt11 for anything else, without the input in its message.
    """
    try:
        return _decode_normalized(_normalize(text))
    except InvalidBolt11:
        raise
    except Exception as exc:  # the library lets errors of any type escape
        raise InvalidBolt11("This is not a Lightning invoice.") from exc


def _normalize(text: object) -> str:
    if not isinstance(text, str) or not text.isascii():
        raise InvalidBolt11("This is not a Lightning invoice.")
    text = text.strip()
    if text.lower().startswith(_SCHEME):
        text = text[len(_SCHEME) :]
    if len(text) > MAX_LENGTH:
        raise InvalidBolt11("This Lightning invoice is too long.")
    # The library converts to lower case; bech32 (BIP 173) forbids mixed case.
    if text not in (text.lower(), text.upper()):
        raise InvalidBolt11("This Lightning invoice mixes upper and lower case.")
    return text.lower()


def _decode_normalized(text: str) -> Bolt11:
    network, amount_msat = _parse_prefix(text.rpartition("1")[0])
    invoice = bolt11.decode(text)
    if invoice.payee is None:
        raise InvalidBolt11("This Lightning invoice is not signed.")
    _require_valid_fields(text)
    return Bolt11(
        text=text,
        network=network,
        payment_hash=invoice.payment_hash,
        amount_msat=amount_msat,
        created_at=datetime.fromtimestamp(invoice.date, UTC),
        # The library's own datetimes are naive and local.
        expires_at=datetime.fromtimestamp(invoice.expiry_time, UTC),
        description=invoice.description,
        payee=invoice.payee,
    )


def _parse_prefix(prefix: str) -> tuple[str, int | None]:
    """Return the network and the amount in millisatoshi.

    The library is too lenient: it takes an amount of zero for none, and drops fractions
    of a millisatoshi and anything after a hyphen.
    """
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        raise InvalidBolt11("This Lightning invoice has no readable amount or network.")
    network, digits, multiplier = match.groups()
    if digits is None:
        return network, None
    amount_msat, part = divmod(int(digits) * _UNITS[multiplier], 10)
    if part or amount_msat > _MAX_MSAT:
        raise InvalidBolt11("This Lightning invoice has an impossible amount.")
    return network, amount_msat


def _require_valid_fields(text: str) -> None:
    """Check what the library skips: a reader must fail on these (BOLT 11).

    Of a repeated field one reader uses the first and another the last, so that the
    wallet that pays could pay another hash than the one that we look up.
    https://github.com/lightning/bolts/pull/1357
    """
    fields = list(_fields(text))
    counts = Counter(letter for letter, _ in fields)
    if any(len(data) != _LENGTHS.get(letter, len(data)) for letter, data in fields):
        raise InvalidBolt11("This Lightning invoice has a field of a wrong length.")
    if any(counts[letter] > 1 for letter in _SINGLE):
        raise InvalidBolt11("This Lightning invoice repeats a field.")
    required = {bit for letter, data in fields if letter == "9" for bit in _bits(data)}
    if any(bit % 2 == 0 for bit in required - _KNOWN_FEATURES):
        raise InvalidBolt11("This Lightning invoice requires an unknown feature.")


def _fields(text: str) -> Iterator[tuple[str, str]]:
    """Yield the letter and the data of each field of a decodable invoice."""
    rest = text.rpartition("1")[2][_TIMESTAMP:-_SIGNATURE]
    while rest:
        end = 3 + 32 * _CHARSET.index(rest[1]) + _CHARSET.index(rest[2])
        yield rest[0], rest[3:end]
        rest = rest[end:]


def _bits(data: str) -> Iterator[int]:
    """Yield the numbers of the bits that are set; the last one is 0."""
    for place, character in enumerate(reversed(data)):
        value = _CHARSET.index(character)
        yield from (5 * place + bit for bit in range(5) if value >> bit & 1)
