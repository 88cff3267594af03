"""BOLT 11 invoices, signed by the payee's node."""

import hashlib
import secrets
from typing import NamedTuple

from bolt11 import (
    Bolt11,
    Feature,
    Features,
    FeatureState,
    MilliSatoshi,
    TagChar,
    Tags,
    encode,
)

from sandbox.common.secrets import track

REQUIRED = Features.from_feature_list(
    {
        Feature.var_onion_optin: FeatureState.required,
        Feature.payment_secret: FeatureState.required,
    }
)
CLTV_EXPIRY = 18


class Preimage(NamedTuple):
    """A preimage and its SHA-256, both in hex; the preimage proves payment."""

    secret: str
    hash: str


def make_preimage() -> Preimage:
    """Return a new preimage and its SHA-256."""
    secret = secrets.token_bytes(32)
    return Preimage(track(secret.hex()), hashlib.sha256(secret).hexdigest())


def make_bolt11(
    *,
    node_key: str,
    payment_hash: str,
    amount_msat: int,
    expiry: int,
    description: str,
    created_at: int,
    currency: str = "bcrt",
) -> str:
    """Return an invoice signed with a hex secret key; expiry is in seconds."""
    tags = Tags()
    tags.add(TagChar.payment_hash, payment_hash)
    tags.add(TagChar.payment_secret, secrets.token_hex(32))
    tags.add(TagChar.description, description)
    tags.add(TagChar.expire_time, expiry)
    tags.add(TagChar.min_final_cltv_expiry, CLTV_EXPIRY)
    tags.add(TagChar.features, REQUIRED)
    invoice = Bolt11(
        currency=currency,
        date=created_at,
        amount_msat=MilliSatoshi(amount_msat),
        tags=tags,
    )
    return encode(invoice, node_key)
