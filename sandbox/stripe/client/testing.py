"""Running sandbox for tests: `with running_sandbox() as sandbox: …`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stripe

from sandbox.stripe.api.faults import ApiFault, Kind, When
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects.portal import configurations
from sandbox.stripe.server import StripeServer
from sandbox.stripe.settings import AccountSettings
from sandbox.stripe.webhooks.faults import Kind as WebhookKind
from sandbox.stripe.webhooks.faults import WebhookFault
from sandbox.stripe.webhooks.http import Post

API_KEY = "sk_test_sandbox"
WEBHOOK_SECRET = "whsec_sandbox"


class Sandbox:
    """Running sandbox with its control functions."""

    def __init__(self, server: StripeServer, api_key: str) -> None:
        self.server = server
        self.app: StripeApp = server.app
        self.url = server.url
        self.api_key = api_key

    def client(self, **options: Any) -> stripe.StripeClient:
        """Return a StripeClient for this sandbox, without automatic retries."""
        return stripe.StripeClient(
            self.api_key,
            base_addresses={"api": self.url},
            **{
                "http_client": stripe.RequestsClient(timeout=20),
                "max_network_retries": 0,
                **options,
            },
        )

    def fault(
        self,
        kind: Kind,
        *,
        method: str | None = "POST",
        path: str = "",
        when: When = "before",
        status: int = 500,
        error: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = 0,
        times: int | None = 1,
        chance: float = 1.0,
        params: dict[str, Any] | None = None,
    ) -> str:
        """Add a fault for the next matching requests and return its id.

        `when="after"`: the request is executed and stored before it fails. `chance` is
        the probability for each matching request, repeatable with a seed.
        """
        return self.app.faults.add(
            ApiFault(
                kind,
                method=method,
                path=path,
                when=when,
                status=status,
                error=error or {},
                headers=headers or {},
                seconds=seconds,
                times=times,
                chance=chance,
                params=params or {},
            )
        ).id

    def webhook_fault(
        self,
        kind: WebhookKind,
        type: str = "*",
        *,
        times: int | None = 1,
        seconds: int = 0,
        chance: float = 1.0,
    ) -> str:
        """Add a fault for deliveries of the next matching events and return its id.

        See `webhook_faults.WebhookFault`; `seconds` is sandbox time.
        """
        fault = WebhookFault(kind, type, times=times, seconds=seconds, chance=chance)
        return self.app.webhook_faults.add(fault).id

    def clear_faults(self) -> None:
        """Remove all faults and release the requests that they delay."""
        self.app.faults.clear()
        self.app.webhook_faults.clear()

    def requests(
        self, method: str | None = None, path: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the logged requests, oldest first; `path` filters by substring."""
        return self.app.log.list(method, path)

    def advance(
        self,
        seconds: int,
        *,
        deliver: bool = False,
        then: Callable[[], object] | None = None,
    ) -> int:
        """Move the clock forward, run everything due, return the new time.

        See `StripeApp.advance` for `deliver` and `then`.
        """
        return self.app.advance(seconds, deliver=deliver, then=then)

    def now(self) -> int:
        """Return sandbox time."""
        return self.app.clock.now()

    def reset(self) -> None:
        """Delete all objects, faults and logged requests, and return to real time."""
        self.app.reset()

    def settings(self, **changes: Any) -> AccountSettings:
        """Change some account settings and return all. Raises BadField."""
        return self.app.change_settings(changes)

    def save_portal(self, features: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Save the default portal configuration, as in the dashboard, and return it."""
        return self.app.transact(
            lambda context: context.serialize(
                configurations.save_default(context, features)
            )
        )

    def redeliver(self, event: str, endpoint: str | None = None) -> int:
        """Resend an event and return the number of deliveries. Raises KeyError."""
        return self.app.redeliver(event, endpoint)

    def snapshot(self, name: str = "default") -> None:
        """Save the whole account under a name."""
        self.app.snapshot(name)

    def restore(self, name: str = "default") -> int:
        """Restore a snapshot, clear faults and return the snapshot's time.

        Raises NoSuchSnapshot.
        """
        return self.app.restore(name)

    def save(self) -> Callable[[], None]:
        """Return a function that restores the present objects and logged requests.

        Unlike a snapshot's, the restored account is at real time.
        """
        app = self.app
        rows, next_seq = app.store.dump()
        logged = app.log.list()

        def restore() -> None:
            with app.lock:
                app.reset()
                app.store.restore(rows, next_seq)
                for entry in logged:
                    app.log.add(entry)

        return restore

    def pause_webhooks(self, paused: bool = True) -> None:
        """Pause or resume webhook deliveries."""
        self.app.deliveries.paused = paused
        self.app.deliveries.wake()


@contextmanager
def running_sandbox(
    *,
    port: int = 0,
    state: str | Path | None = None,
    api_key: str | None = None,
    seed: int | None = None,
    webhook_url: str | None = None,
    webhook_secret: str = WEBHOOK_SECRET,
    webhook_events: list[str] | None = None,
    post: Post | None = None,
    retry_delays: tuple[float, ...] | None = None,
) -> Iterator[Sandbox]:
    """Run a sandbox on 127.0.0.1 during the block, by default on a free port.

    `post(url, body, headers) -> status` replaces the HTTP requests of deliveries.
    """
    app = StripeApp(
        state=state, api_key=api_key, seed=seed, post=post, retry_delays=retry_delays
    )
    if webhook_url:
        app.register_endpoint(webhook_url, secret=webhook_secret, events=webhook_events)
    server = StripeServer(app, port=port)
    server.start()
    try:
        yield Sandbox(server, api_key or API_KEY)
    finally:
        server.stop()
