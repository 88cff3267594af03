"""What a start with nothing configured runs on: embedded servers, generated secrets.

Nothing here is reached in production, where DEBUG is off and every setting is given.
"""

import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet

#: Where `make run` tells other processes of this checkout which ports it took.
RUN_FILE = "run.env"
_SECRETS_FILE = "development.env"


def defaults(var: Path) -> dict[str, str]:
    """Return the settings that a development start uses where none is given.

    The secrets are made once and kept in `var`: rows encrypted by one run must be
    readable in the next.
    """
    return {
        "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
        "APP_URL": "http://localhost:8000",
        "STRIPE_API_BASE": "http://127.0.0.1:12111",
        "BTC_PRICE_URLS": ",".join(
            f"http://127.0.0.1:12112/prices/{source}/{{currency}}#/amount@/as_of"
            for source in ("abacus", "beacon", "compass")
        ),
        "BILLING_EMAIL_DOMAIN": "tenants.caravel.example",
        "RELAY_DOMAIN": "relays.caravel.example",
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
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _create_once(path, _generated())
    return _read(path)


def _generated() -> dict[str, str]:
    return {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "STRIPE_SECRET_KEY": f"sk_test_sandbox{secrets.token_hex(12)}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
        "ADMIN_PASSWORD": secrets.token_urlsafe(9),
    }


def _create_once(path: Path, values: dict[str, str]) -> None:
    """Write the file unless another process has written it in the meantime."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # the other process's secrets are the ones to use
    finally:
        draft.unlink()


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)
