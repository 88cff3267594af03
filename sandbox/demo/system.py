"""The whole system on one machine: embedded servers, stand-ins, Caravel's processes."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caravel import dev_defaults, embedded
from sandbox import clock
from sandbox.demo.supervisor import Child, free_ports
from sandbox.lightning.default_wallets import PLATFORM
from sandbox.stripe.client.testing import running_sandbox

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
#: Environment variables that choose ports, and their defaults.
PORTS = {
    "PORT": 8000,
    "STRIPE_PORT": 12111,
    "LIGHTNING_PORT": 12112,
    "NOSTR_PORT": 12113,
    "ZOOID_PORT": 12114,
}
#: File under `var` with the offset of the system's time, see `sandbox.clock`.
CLOCK_FILE = "clock"


@dataclass(frozen=True)
class System:
    """Addresses of all parts, and the environment of Caravel's processes."""

    var: Path
    env: Mapping[str, str]
    web_port: int
    stripe_port: int
    lightning_port: int
    nostr_port: int
    zooid_port: int

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def stripe_url(self) -> str:
        return f"http://127.0.0.1:{self.stripe_port}"

    @property
    def stripe_state(self) -> Path:
        return self.var / "sandbox-stripe.sqlite"

    @property
    def lightning_state(self) -> Path:
        return self.var / "sandbox-lightning.sqlite"

    @property
    def zooid_state(self) -> Path:
        return self.var / "sandbox-zooid.json"


@contextmanager
def running_servers(var: Path, *, durable: bool = True) -> Iterator[System]:
    """Start PostgreSQL and Valkey under `var` and choose ports for the rest.

    Servers named by DATABASE_URL and REDIS_URL are used instead. Raises
    embedded.AlreadyRunning if another process of this checkout runs them.
    """
    urls = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}
    if all(urls.values()):
        yield _system(var, urls)
        return
    with embedded.servers(var, durable=durable) as servers:
        started = {
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
        }
        yield _system(var, started)


def _system(var: Path, servers: Mapping[str, str]) -> System:
    defaults = dev_defaults.defaults(var)
    names = ("web_port", "stripe_port", "lightning_port", "nostr_port", "zooid_port")
    ports = dict(zip(names, _ports(), strict=True))
    env = {
        **defaults,
        **os.environ,
        **servers,
        "DEBUG": "true",
        "CARAVEL_QUIET": "true",
        "CARAVEL_VAR": str(var),
        "APP_URL": f"http://127.0.0.1:{ports['web_port']}",
        clock.VARIABLE: str(var / CLOCK_FILE),
        **_stripe_settings(defaults, ports["stripe_port"]),
        **_lightning_settings(defaults, ports["lightning_port"], ports["nostr_port"]),
        **_robot_settings(defaults, ports["nostr_port"]),
        "ZOOID_API_URL": f"http://127.0.0.1:{ports['zooid_port']}",
    }
    return System(var, env, **ports)


# These override the environment: a developer's real Stripe account, wallet, relays and
# mailboxes must not be touched.


def _stripe_settings(defaults: Mapping[str, str], port: int) -> dict[str, str]:
    return {
        "STRIPE_API_BASE": f"http://127.0.0.1:{port}",
        "STRIPE_SECRET_KEY": defaults["STRIPE_SECRET_KEY"],
        "STRIPE_WEBHOOK_SECRET": defaults["STRIPE_WEBHOOK_SECRET"],
    }


def _lightning_settings(
    defaults: Mapping[str, str], port: int, nostr_port: int
) -> dict[str, str]:
    seed, url = defaults["SANDBOX_SEED"], f"http://127.0.0.1:{port}"
    relay = f"ws://127.0.0.1:{nostr_port}"
    return {
        "SANDBOX_SEED": seed,
        "SANDBOX_LIGHTNING": url,
        "ROBOT_WALLET": dev_defaults.sandbox_wallet(seed, PLATFORM, relay),
        "BTC_PRICE_URLS": dev_defaults.sandbox_prices(url),
        "NWC_ALLOW_PRIVATE_RELAYS": "true",
    }


def _robot_settings(defaults: Mapping[str, str], nostr_port: int) -> dict[str, str]:
    relay = f"ws://127.0.0.1:{nostr_port}"
    return {
        "ROBOT_SECRET": defaults["ROBOT_SECRET"],
        "ROBOT_OUTBOX_RELAYS": relay,
        "ROBOT_INDEXER_RELAYS": relay,
        "ROBOT_MESSAGING_RELAYS": relay,
        "NOSTR_ALLOW_PRIVATE_RELAYS": "true",
        "EMAIL_URL": "consolemail://",
    }


def _ports() -> list[int]:
    """Return the ports of web, Stripe, Lightning, its relay and zooid."""
    preferred = [int(os.environ.get(name) or port) for name, port in PORTS.items()]
    chosen = free_ports(preferred)
    for port, actual in zip(preferred, chosen, strict=True):
        if port and port != actual:
            print(f"Port {port} is taken: using {actual}.", flush=True)
    return chosen


def prepare(system: System, *, admin_password: str = "") -> None:
    """Migrate, and create the plans' prices in the sandbox Stripe.

    With a password, also create the superuser `admin`. Raises
    subprocess.CalledProcessError; the output goes to the screen.
    """
    env = {**system.env, "DJANGO_SUPERUSER_PASSWORD": admin_password}
    # The sandbox Stripe is not running yet, but the prices are created in its state.
    with running_sandbox(
        port=system.stripe_port,
        state=system.stripe_state,
        api_key=system.env["STRIPE_SECRET_KEY"],
    ):
        subprocess.run(
            [PYTHON, "manage.py", "prepare_system"], cwd=ROOT, env=env, check=True
        )


def processes(system: System, *, logs: Path | None = None) -> list[Child]:
    """Return the processes of the system; with `logs`, each logs to a file there."""
    commands = {
        "stripe": _stripe(system),
        "lightning": _lightning(system),
        "zooid": _zooid(system),
        "web": _web(system),
        "worker": [*_worker("worker", "default,stripe"), "--concurrency", "2"],
        "network": [
            *_worker("network", "lightning,nostr"),
            *("--pool", "threads", "--concurrency", "16"),
        ],
        "beat": _celery("beat", "--schedule", str(system.var / "celerybeat-schedule")),
        "servers": [PYTHON, "-u", "-m", "sandbox.demo.server_watchdog"],
    }
    return [
        Child(name, command, system.env, logs / f"{name}.log" if logs else None)
        for name, command in commands.items()
    ]


def _stripe(system: System) -> list[str]:
    return [
        *(PYTHON, "-m", "sandbox.stripe", "--port", str(system.stripe_port)),
        *("--state", str(system.stripe_state)),
        *("--api-key", system.env["STRIPE_SECRET_KEY"]),
        *("--clock-file", system.env[clock.VARIABLE]),
        *("--webhook-url", f"{system.web_url}/stripe/webhook"),
        *("--webhook-secret", system.env["STRIPE_WEBHOOK_SECRET"]),
    ]


def _lightning(system: System) -> list[str]:
    return [
        *(PYTHON, "-m", "sandbox.lightning"),
        *("--lightning-port", str(system.lightning_port)),
        *("--nostr-port", str(system.nostr_port)),
        *("--wallets", str(system.lightning_state)),
    ]


def _zooid(system: System) -> list[str]:
    return [
        *(PYTHON, "-m", "sandbox.zooid"),
        *("--zooid-port", str(system.zooid_port)),
        *("--relays", str(system.zooid_state)),
    ]


def _web(system: System) -> list[str]:
    return [
        *(PYTHON, "-m", "gunicorn", "caravel.wsgi"),
        *("--bind", f"127.0.0.1:{system.web_port}"),
        *("--workers", "2", "--worker-class", "gthread", "--threads", "4"),
        "--no-control-socket",
    ]


def _worker(name: str, queues: str) -> list[str]:
    return _celery(
        *("worker", "--hostname", f"{name}@%h", "--queues", queues),
        *("--without-gossip", "--without-mingle"),
    )


def _celery(*arguments: str) -> list[str]:
    return [PYTHON, "-m", "celery", "--app", "caravel", "--quiet", *arguments]
