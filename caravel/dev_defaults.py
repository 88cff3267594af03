"""Development defaults: embedded servers and generated secrets.

Not used in production, where DEBUG is off and every required setting is set.
"""

import fcntl
import hashlib
import secrets
from pathlib import Path
from urllib.parse import quote

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from caravel.nostr import generate_secret_key, pubkey_of

#: Settings that `make run` writes for other processes of this checkout: its ports.
RUN_FILE = "run.env"
_SECRETS_FILE = "development.env"
#: Default address of the sandbox's Nostr relay.
SANDBOX_RELAY = "ws://127.0.0.1:12113"
#: Name of the sandbox's wallet that receives payments, as ROBOT_WALLET.
PLATFORM = "platform"
_SECRET_NAMES = {
    "SECRET_KEY",
    "ENCRYPTION_KEYS",
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "ADMIN_PASSWORD",
    "SANDBOX_SEED",
    "ROBOT_WALLET",
    "ROBOT_SECRET",
}


class Unreadable(ImproperlyConfigured):
    """A file with development settings is damaged; the message names it."""


def defaults(var: Path) -> dict[str, str]:
    """Return the development default of each required setting.

    Secrets are generated once and stored in `var`, so that the next run can decrypt
    the rows of this one. Raises Unreadable.
    """
    return {
        "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
        "APP_URL": "http://localhost:8000",
        "STRIPE_API_BASE": "http://127.0.0.1:12111",
        "BTC_PRICE_URLS": sandbox_prices("http://127.0.0.1:12112"),
        "BILLING_EMAIL_DOMAIN": "tenants.caravel.example",
        "RELAY_DOMAIN": "relays.localhost:12114",
        "ZOOID_API_URL": "http://127.0.0.1:12114",
        "ZOOID_RELAYS_URL": "http://127.0.0.1:12114",
        # No LiveKit server is started: voice rooms need one.
        "LIVEKIT_URL": "ws://127.0.0.1:7880",
        "LIVEKIT_API_KEY": "devkey",
        "LIVEKIT_API_SECRET": "development-livekit-secret",
        "ROBOT_OUTBOX_RELAYS": SANDBOX_RELAY,
        "ROBOT_INDEXER_RELAYS": SANDBOX_RELAY,
        **_stored_secrets(var / _SECRETS_FILE),
        **_read(var / RUN_FILE),
    }


def start_embedded_servers() -> None:
    """Start PostgreSQL and Valkey under `var`, or use those that already run there.

    Does nothing if both DATABASE_URL and REDIS_URL are set, or DEBUG is off.
    """
    from django.conf import settings

    from caravel import embedded

    if settings.EMBEDDED_SERVERS:
        embedded.ensure_started(settings.VAR)


def _stored_secrets(path: Path) -> dict[str, str]:
    """Return the secrets of this checkout; generate and store missing ones."""
    stored = _read(path)
    if stored.keys() >= _SECRET_NAMES:
        return stored
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Read again under the lock: another process may have generated them meanwhile.
        stored = {**_generate_secrets(), **_read(path)}
        wallet = sandbox_wallet(stored["SANDBOX_SEED"], PLATFORM, SANDBOX_RELAY)
        stored.setdefault("ROBOT_WALLET", wallet)
        draft = path.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text("".join(f"{name}={value}\n" for name, value in stored.items()))
        draft.replace(path)
    return stored


def _generate_secrets() -> dict[str, str]:
    return {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "STRIPE_SECRET_KEY": f"sk_test_sandbox{secrets.token_hex(12)}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
        "ADMIN_PASSWORD": secrets.token_urlsafe(9),
        "SANDBOX_SEED": secrets.token_hex(16),
        "ROBOT_SECRET": generate_secret_key(),
    }


def sandbox_wallet(seed: str, name: str, relay: str) -> str:
    """Return the NWC URI of a sandbox wallet; its keys are derived from the seed."""
    wallet = hashlib.sha256(f"{seed}\0{name}\0wallet".encode()).hexdigest()
    client = hashlib.sha256(f"{seed}\0{name}\0client\x001".encode()).hexdigest()
    query = f"relay={quote(relay, safe='')}&secret={client}"
    return f"nostr+walletconnect://{pubkey_of(wallet)}?{query}"


def sandbox_prices(url: str) -> str:
    """Return BTC_PRICE_URLS for the price sources of the sandbox at `url`."""
    return ",".join(
        f"{url}/prices/{source}/{{currency}}#/amount@/as_of"
        for source in ("abacus", "beacon", "compass")
    )


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        lines = path.read_text().splitlines()
        values = dict(line.split("=", 1) for line in lines if line)
    except (OSError, ValueError) as exc:
        raise Unreadable(f"{path} cannot be read.") from exc
    if not all(values.values()):
        raise Unreadable(f"{path} cannot be read: a value is blank.")
    return values
