"""Reading Lightning invoices: BOLT 11."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import bolt11

from lightning.exceptions import InvalidBolt11

#: Longer ones are read by no wallet: what fits into a QR code.
LONGEST = 7_089
_MOST_MSAT = 21_000_000 * 10**11
_SCHEME = "lightning:"
# Without leading zeros, and no amount of zero.
_READABLE = re.compile(r"ln(bcrt|bc|tbs|tb)(?:([1-9]\d*)([munp]?))?")
# A multiplier's unit in tenths of a millisatoshi, the smallest that can be written.
_UNITS = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}


@dataclass(frozen=True)
class Bolt11:
    """A signed invoice; `payee` is the key that signed it, both ids are in hex.

    Another signature over a changed invoice is valid too and shows another payee: who
    asked for an invoice compares what it got.
    """

    #: In lower case, without `lightning:`.
    text: str
    #: `bc`, `tb`, `tbs` or `bcrt`.
    network: str
    payment_hash: str
    #: None leaves the amount to the payer.
    amount_msat: int | None
    created_at: datetime
    expires_at: datetime
    #: None where there is only the hash of one.
    description: str | None
    payee: str


def decode(text: object) -> Bolt11:
    """Read an invoice in either case, with or without `lightning:`.

    Raises InvalidBolt11, without repeating it, for anything else.
    """
    try:
        return _decoded(_plain(text))
    except InvalidBolt11:
        raise
    except Exception as exc:  # the library raises whatever the input leads to
        raise InvalidBolt11("This is not a Lightning invoice.") from exc


def _plain(text: object) -> str:
    if not isinstance(text, str) or not text.isascii():
        raise InvalidBolt11("This is not a Lightning invoice.")
    text = text.strip()
    if text.lower().startswith(_SCHEME):
        text = text[len(_SCHEME) :]
    if len(text) > LONGEST:
        raise InvalidBolt11("This Lightning invoice is too long.")
    # The library puts all in lower case; bech32 (BIP 173) forbids a mixture.
    if text not in (text.lower(), text.upper()):
        raise InvalidBolt11("This Lightning invoice mixes upper and lower case.")
    return text.lower()


def _decoded(text: str) -> Bolt11:
    network, amount_msat = _readable_part(text.rpartition("1")[0])
    invoice = bolt11.decode(text)
    if invoice.payee is None:
        raise InvalidBolt11("This Lightning invoice is not signed.")
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


def _readable_part(prefix: str) -> tuple[str, int | None]:
    """Return the network and the amount, which the library reads too generously.

    It takes an amount of zero for none, drops parts of a millisatoshi, and whatever
    follows a hyphen.
    """
    match = _READABLE.fullmatch(prefix)
    if match is None:
        raise InvalidBolt11("This Lightning invoice has no readable amount or network.")
    network, digits, multiplier = match.groups()
    if digits is None:
        return network, None
    amount_msat, part = divmod(int(digits) * _UNITS[multiplier], 10)
    if part or amount_msat > _MOST_MSAT:
        raise InvalidBolt11("This Lightning invoice has an impossible amount.")
    return network, amount_msat
