"""nostr-relay of PyPI. An argument, read or both, says what needs authentication."""

import asyncio
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import alembic.config
import nostr_relay
import uvicorn
import yaml
from connections import drop_connections
from lines import serve_calls
from nostr_relay.auth import Authenticator
from nostr_relay.config import Config
from nostr_relay.web import create_app

AUTHENTICATED = "w"
ACTIONS = {"read": ["query"], "both": ["query", "save"]}
events: dict[str, Any] = {}


class AnyKey(Authenticator):
    """Authentication by any key; the library's own wants each key registered."""

    async def authenticate(self, auth_event: Any, challenge: str = "") -> Any:
        token = await super().authenticate(auth_event, challenge)
        return {**token, "roles": {AUTHENTICATED}}


def record(event: Any, config: Any) -> None:
    """Validate an event: here it is just recorded."""
    events[event.id] = event.to_json_object()


def configuration(url: str, mode: str, directory: Path) -> dict[str, Any]:
    private = ACTIONS.get(mode, [])
    return {
        "storage": {
            "sqlalchemy.url": f"sqlite+aiosqlite:///{directory}/events.sqlite3",
            "validators": ["nostr_relay.validators.is_signed", f"{__name__}.record"],
        },
        "authentication": {
            "enabled": bool(mode),
            "authenticator_class": f"{__name__}.AnyKey",
            "relay_urls": [url],
            "actions": {
                action: AUTHENTICATED if action in private else f"a{AUTHENTICATED}"
                for action in ("query", "save")
            },
        },
        "message_timeout": 1800,
        "subscription_limit": 100,
        "logging": {},
    }


def create(url: str, mode: str, directory: Path) -> Any:
    """Return the application, with a new database."""
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(configuration(url, mode, directory)))
    Config.load(str(file))
    migrations = Path(nostr_relay.__file__).with_name("alembic.ini")
    alembic.config.main([f"-c{migrations}", "upgrade", "head"])
    return create_app(str(file))


async def run(app: Any, sock: socket.socket, relay_url: str) -> None:
    config = uvicorn.Config(app, log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:
        await asyncio.sleep(0.01)

    async def url() -> str:
        return relay_url

    async def sent_events() -> list[Any]:
        return list(events.values())

    async def forget_events() -> None:
        events.clear()

    async def drop() -> None:
        drop_connections(sock.getsockname()[1])

    await serve_calls(
        {
            "url": url,
            "sent_events": sent_events,
            "forget_events": forget_events,
            "drop_connections": drop,
        }
    )
    server.should_exit = True
    await serving


with tempfile.TemporaryDirectory() as directory:
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"ws://127.0.0.1:{sock.getsockname()[1]}"
    app = create(url, "".join(sys.argv[1:]), Path(directory))
    asyncio.run(run(app, sock, url))
