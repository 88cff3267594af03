"""What a start with nothing configured runs on: embedded servers, generated secrets.

Nothing here is reached in production, where DEBUG is off and every setting is given.
"""

import fcntl
import hashlib
import secrets
from pathlib import Path
from urllib.parse import quote

from cryptography.fernet import Fernet

from caravel.nostr import generate_secret_key, pubkey_of

#: Where `make run` tells other processes of this checkout which ports it took.
RUN_FILE = "run.env"
_SECRETS_FILE = "development.env"
#: Where the sandbox's Nostr relay listens unless another port is chosen.
SANDBOX_RELAY = "ws://127.0.0.1:12113"
_NAMES = {
    "SECRET_KEY",
    "ENCRYPTION_KEYS",
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "ADMIN_PASSWORD",
    "SANDBOX_SEED",
    "ROBOT_WALLET",
    "ROBOT_SECRET",
}


def defaults(var: Path) -> dict[str, str]:
    """Return the settings that a development start uses where none is given.

    The secrets are made once and kept in `var`: rows encrypted by one run must be
    readable in the next.
    """
    return {
        "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
        "APP_URL": "http://localhost:8000",
        "STRIPE_API_BASE": "http://127.0.0.1:12111",
        "BTC_PRICE_URLS": sandbox_prices("http://127.0.0.1:12112"),
        "BILLING_EMAIL_DOMAIN": "tenants.caravel.example",
        "RELAY_DOMAIN": "relays.caravel.example",
        "ZOOID_API_URL": "http://127.0.0.1:12114",
        "ROBOT_OUTBOX_RELAYS": SANDBOX_RELAY,
        "ROBOT_INDEXER_RELAYS": SANDBOX_RELAY,
        **_kept_secrets(var / _SECRETS_FILE),
        **_read(var / RUN_FILE),
    }


def start_embedded_servers() -> None:
    """Start PostgreSQL and Valkey under `var`, or join those that run there already.

    Does nothing where DATABASE_URL and REDIS_URL name servers, or DEBUG is off.
    """
    from django.conf import settings

    from caravel import embedded

    if settings.EMBEDDED_SERVERS:
        embedded.ensure_started(settings.VAR)


def _kept_secrets(path: Path) -> dict[str, str]:
    """Return the secrets of this checkout, having made those that it lacks."""
    kept = _read(path)
    if kept.keys() >= _NAMES:
        return kept
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have made them meanwhile; its are the ones to use.
        kept = {**_generated(), **_read(path)}
        wallet = sandbox_wallet(kept["SANDBOX_SEED"], "platform", SANDBOX_RELAY)
        kept.setdefault("ROBOT_WALLET", wallet)
        draft = path.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text("".join(f"{name}={value}\n" for name, value in kept.items()))
        draft.replace(path)
    return kept


def _generated() -> dict[str, str]:
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
    """Return the NWC address of a wallet of the sandbox, whose keys are its seed's."""
    wallet = hashlib.sha256(f"{seed}\0{name}\0wallet".encode()).hexdigest()
    client = hashlib.sha256(f"{seed}\0{name}\0client\x001".encode()).hexdigest()
    query = f"relay={quote(relay, safe='')}&secret={client}"
    return f"nostr+walletconnect://{pubkey_of(wallet)}?{query}"


def sandbox_prices(url: str) -> str:
    """Return BTC_PRICE_URLS for the exchanges of a sandbox at that address."""
    return ",".join(
        f"{url}/prices/{source}/{{currency}}#/amount@/as_of"
        for source in ("abacus", "beacon", "compass")
    )


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)
