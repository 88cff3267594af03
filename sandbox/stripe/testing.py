"""The sandbox for tests: `with running_sandbox() as sandbox: …`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.faults import Fault, Kind, When
from sandbox.stripe.objects import portal_configurations
from sandbox.stripe.server import StripeServer
from sandbox.stripe.settings import Settings
from sandbox.stripe.webhook_faults import Kind as WebhookKind
from sandbox.stripe.webhook_faults import WebhookFault
from sandbox.stripe.webhook_post import Post

API_KEY = "sk_test_sandbox"
WEBHOOK_SECRET = "whsec_sandbox"


class Sandbox:
    """A running sandbox and the control a test has over it."""

    def __init__(self, server: StripeServer, api_key: str) -> None:
        self.server = server
        self.app: StripeApp = server.app
        self.url = server.url
        self.api_key = api_key

    def client(self, **options: Any) -> stripe.StripeClient:
        """Return a StripeClient for this sandbox, which does not retry by itself."""
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
        """Let the next matching requests go wrong; return the fault's id.

        `when="after"`: the work is done and stored before things go wrong. `chance`:
        so many of the matching ones, the same in every run with this seed.
        """
        return self.app.faults.add(
            Fault(
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
        """Let deliveries of the next matching events go wrong; return the fault's id.

        See `webhook_faults.WebhookFault`; seconds are the sandbox clock's.
        """
        fault = WebhookFault(kind, type, times=times, seconds=seconds, chance=chance)
        return self.app.webhook_faults.add(fault).id

    def clear_faults(self) -> None:
        """Remove all faults; requests they hold back go on at once."""
        self.app.faults.clear()
        self.app.webhook_faults.clear()

    def requests(
        self, method: str | None = None, path: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the logged requests, oldest first; `path` is a part of theirs."""
        return self.app.log.list(method, path)

    def advance(
        self,
        seconds: int,
        *,
        deliver: bool = False,
        then: Callable[[], object] | None = None,
    ) -> int:
        """Move the clock, let everything due happen, return the new time.

        With `deliver` the clock stops on its way until webhooks are delivered, and
        calls `then` for what follows from them.
        """
        return self.app.advance(seconds, deliver=deliver, then=then)

    def now(self) -> int:
        """Return sandbox time."""
        return self.app.clock.now()

    def reset(self) -> None:
        """Forget all objects, faults and requests, and return to real time."""
        self.app.reset()

    def settings(self, **changes: Any) -> Settings:
        """Change what the account is set to; return all. Raises BadSetting."""
        return self.app.change_settings(changes)

    def save_portal(self, features: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Save the default portal configuration, as the dashboard does; return it."""
        return self.app.transact(
            lambda context: context.show(
                portal_configurations.save_default(context, features)
            )
        )

    def redeliver(self, event: str, endpoint: str | None = None) -> int:
        """Deliver an event again; return to how many endpoints. Raises KeyError."""
        return self.app.redeliver(event, endpoint)

    def snapshot(self, name: str = "default") -> None:
        """Keep all that the account now is."""
        self.app.snapshot(name)

    def restore(self, name: str = "default") -> int:
        """Go back to a snapshot and its time, which is returned; faults end.

        Raises NoSuchSnapshot.
        """
        return self.app.restore(name)

    def pause_webhooks(self, paused: bool = True) -> None:
        """Hold deliveries back, or let them go on."""
        self.app.deliveries.settings.paused = paused
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
    """Serve a sandbox on a free port of 127.0.0.1 for the length of the block.

    `post(url, body, headers) -> status` replaces the HTTP of webhook deliveries.
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
