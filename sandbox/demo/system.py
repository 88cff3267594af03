"""The whole system on one machine: embedded servers, stand-ins, Caravel's processes."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from caravel import dev_defaults, embedded
from sandbox import clock
from sandbox.common.state import UnreadableState
from sandbox.demo.supervisor import Child, free_ports
from sandbox.stripe.client.testing import running_sandbox

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
#: The data's directory of `make run`.
VAR = Path(os.environ.get("CARAVEL_VAR") or ROOT / "var").resolve()
#: Environment variables that choose ports, and their defaults.
PORTS = {
    "PORT": 8000,
    "STRIPE_PORT": 12111,
    "LIGHTNING_PORT": 12112,
    "NOSTR_PORT": 12113,
    "ZOOID_PORT": 12114,
}
#: Settings with this checkout's value even if the environment has another one.
_OWN_SETTINGS = (
    *("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "SANDBOX_SEED", "ROBOT_SECRET"),
    "ADMIN_PASSWORD",
)
#: Link in the data's directory with the offset of the system's clock.
CLOCK = "clock-offset"
_MAX_PORT = 65_535


class CannotStart(Exception):
    """The system cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class System:
    """The data's directory, the environment of all processes, ports as in PORTS."""

    var: Path
    env: Mapping[str, str]
    ports: Mapping[str, int]
    #: Those that we have started.
    servers: embedded.Servers | None = None

    def find_fault(self) -> str:
        """Return a text if a server of ours has ended."""
        return self.servers.find_ended() if self.servers else ""

    @property
    def stripe_state(self) -> Path:
        return self.var / "sandbox-stripe.sqlite"

    @property
    def stripe_account(self) -> str:
        """Id of the sandbox's account: each data directory has its own, by its key.

        A database of another directory is refused then: its customers are not here.
        """
        key = self.env["STRIPE_SECRET_KEY"]
        return f"acct_sandbox{sha256(key.encode()).hexdigest()[:12]}"


def run(
    var: Path,
    use: Callable[[System], int],
    *,
    durable: bool = True,
    with_admin: bool = False,
) -> int:
    """Start and prepare the system, and return the exit status of the function.

    A start that fails is explained on the screen; its status is not 0.
    """
    try:
        with _running_servers(var, durable=durable) as system:
            _prepare(system, with_admin=with_admin)
            return use(system)
    except embedded.AlreadyRunning as exc:
        print(f"{exc} Stop it first.", file=sys.stderr)
    except (embedded.EmbeddedError, CannotStart) as exc:
        print(exc, file=sys.stderr)
    except (UnreadableState, dev_defaults.Unreadable) as exc:
        # The database refers to objects in that file: a new, empty one would not do.
        print(f"{exc} `make reset` deletes it and the database.", file=sys.stderr)
    except subprocess.CalledProcessError as exc:
        print("Preparing the system failed; see above.", file=sys.stderr)
        return exc.returncode
    return 1


@contextmanager
def _running_servers(var: Path, *, durable: bool = True) -> Iterator[System]:
    """Start PostgreSQL and Valkey under `var` and choose ports for the rest.

    Servers named by DATABASE_URL and REDIS_URL are used instead. Raises CannotStart,
    UnreadableState, dev_defaults.Unreadable, and embedded.AlreadyRunning if another
    process of this checkout runs them.
    """
    # First what needs no server: its faults are told at once.
    defaults, ports = dev_defaults.defaults(var), _ports()
    clock.read_offset(var / CLOCK)
    urls = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}
    if all(urls.values()):
        _print_taken(ports)
        yield _system(var, defaults, ports, urls)
        return
    with embedded.servers(var, durable=durable) as servers:
        _print_taken(ports)
        addresses = (servers.database_url, servers.redis_url)
        urls = dict(zip(urls, addresses, strict=True))
        yield replace(_system(var, defaults, ports, urls), servers=servers)


def _system(
    var: Path,
    defaults: Mapping[str, str],
    ports: Mapping[str, int],
    servers: Mapping[str, str],
) -> System:
    env = {
        **defaults,
        **os.environ,
        **servers,
        "DEBUG": "true",
        "CARAVEL_QUIET": "true",
        "CARAVEL_VAR": str(var),
        clock.VARIABLE: str(var / CLOCK),
        # These override the environment: a developer's real Stripe account, wallet,
        # relays and mailboxes must not be touched.
        **{name: defaults[name] for name in _OWN_SETTINGS},
        **_addresses(defaults["SANDBOX_SEED"], ports),
        "NOSTR_ALLOW_PRIVATE_RELAYS": "true",
        "NWC_ALLOW_PRIVATE_RELAYS": "true",
        # The sandbox's wallet takes any number of requests, and the clock may jump.
        "ROBOT_WALLET_REQUESTS_PER_MINUTE": "100000",
        "ROBOT_WALLET_ALLOW_UNPROVEN": "true",
        "EMAIL_URL": "consolemail://",
        # Celery's workers warn of running as root, as many containers do.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
    }
    return System(var, env, ports)


def _addresses(seed: str, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the settings with the addresses of the web process and the stand-ins."""
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    lightning, relay = urls["LIGHTNING_PORT"], f"ws://127.0.0.1:{ports['NOSTR_PORT']}"
    return {
        "APP_URL": urls["PORT"],
        "STRIPE_API_BASE": urls["STRIPE_PORT"],
        "ZOOID_API_URL": urls["ZOOID_PORT"],
        # Browsers and curl find names under localhost, other programs may not.
        "RELAY_DOMAIN": f"relays.localhost:{ports['ZOOID_PORT']}",
        "ZOOID_RELAYS_URL": urls["ZOOID_PORT"],
        "SANDBOX_LIGHTNING": lightning,
        "ROBOT_WALLET": dev_defaults.sandbox_wallet(seed, dev_defaults.PLATFORM, relay),
        "BTC_PRICE_URLS": dev_defaults.sandbox_prices(lightning),
        "ROBOT_OUTBOX_RELAYS": relay,
        "ROBOT_INDEXER_RELAYS": relay,
        "ROBOT_MESSAGING_RELAYS": relay,
    }


def _ports() -> dict[str, int]:
    """Return the preferred ports, or free ones for those taken. Raises CannotStart."""
    preferred = [_port(name) for name in PORTS]
    return dict(zip(PORTS, free_ports(preferred), strict=True))


def _print_taken(ports: Mapping[str, int]) -> None:
    """Print the preferred ports that are taken, and those used instead."""
    for name, actual in ports.items():
        port = _port(name)
        if port and port != actual:
            print(f"Port {port} is taken: using {actual}.", flush=True)


def _port(name: str) -> int:
    text = os.environ.get(name) or str(PORTS[name])
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _MAX_PORT:
        raise CannotStart(f"{name} must be a number from 0 to {_MAX_PORT}: {text!r}.")
    return int(text)


def _prepare(system: System, *, with_admin: bool) -> None:
    """Migrate, and create the plans' prices in the sandbox Stripe.

    With `with_admin`, also create the superuser `admin`. Raises
    subprocess.CalledProcessError; the output goes to the screen.
    """
    password = system.env["ADMIN_PASSWORD"] if with_admin else ""
    env = {**system.env, "DJANGO_SUPERUSER_PASSWORD": password}
    # The sandbox Stripe is not running yet, but the prices are created in its state.
    with running_sandbox(
        port=system.ports["STRIPE_PORT"],
        state=system.stripe_state,
        api_key=system.env["STRIPE_SECRET_KEY"],
        account=system.stripe_account,
    ):
        subprocess.run(
            [PYTHON, "manage.py", "prepare_system"], cwd=ROOT, env=env, check=True
        )


def processes(system: System, *, logs: Path | None = None) -> list[Child]:
    """Return the processes of the system; with `logs`, each logs to a file there."""
    commands = {**_stand_ins(system), **_caravel(system)}
    return [
        Child(name, command, system.env, logs / f"{name}.log" if logs else None)
        for name, command in commands.items()
    ]


def _stand_ins(system: System) -> dict[str, list[str]]:
    var, env = system.var, system.env
    ports = {name: str(port) for name, port in system.ports.items()}
    return {
        "stripe": [
            *(PYTHON, "-m", "sandbox.stripe", "--port", ports["STRIPE_PORT"]),
            *("--state", str(system.stripe_state)),
            *("--api-key", env["STRIPE_SECRET_KEY"]),
            *("--account", system.stripe_account),
            *("--clock-file", env[clock.VARIABLE]),
            *("--webhook-url", f"{env['APP_URL']}/stripe/webhook"),
            *("--webhook-secret", env["STRIPE_WEBHOOK_SECRET"]),
        ],
        "lightning": [
            *(PYTHON, "-m", "sandbox.lightning"),
            *("--lightning-port", ports["LIGHTNING_PORT"]),
            *("--nostr-port", ports["NOSTR_PORT"]),
            *("--wallets", str(var / "sandbox-lightning.sqlite")),
        ],
        "zooid": [
            *(PYTHON, "-m", "sandbox.zooid", "--zooid-port", ports["ZOOID_PORT"]),
            *("--relays", str(var / "sandbox-zooid.json")),
        ],
    }


def _caravel(system: System) -> dict[str, list[str]]:
    return {
        "web": [
            *(PYTHON, "-m", "gunicorn", "caravel.wsgi", "--preload"),
            *("--bind", f"127.0.0.1:{system.ports['PORT']}"),
            *("--worker-class", "caravel.web_server.Worker"),
            *("--workers", "2", "--threads", "4", "--no-control-socket"),
        ],
        "worker": [*_worker("worker", "default,stripe"), "--concurrency", "2"],
        "network": [
            *_worker("network", "lightning,nostr,zooid"),
            *("--pool", "threads", "--concurrency", "16"),
        ],
        "beat": _celery("beat"),
    }


def _worker(name: str, queues: str) -> list[str]:
    return _celery(
        *("worker", "--hostname", f"{name}@%h", "--queues", queues),
        *("--without-gossip", "--without-mingle"),
    )


def _celery(*arguments: str) -> list[str]:
    return [PYTHON, "-m", "celery", "--app", "caravel", "--quiet", *arguments]
