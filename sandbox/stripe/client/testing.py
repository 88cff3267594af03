"""Running sandbox for tests: `with running_sandbox() as sandbox: …`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import stripe

from sandbox.common.server import serving
from sandbox.stripe.api.context import ACCOUNT
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
    """Running sandbox with its control functions, most of which are the app's."""

    def __init__(
        self, server: StripeServer, api_key: str, app: StripeApp | None = None
    ) -> None:
        self.server = server
        self.app = app = app or server.app
        self.url = server.url
        self.api_key = api_key
        self.advance = app.advance
        self.clear_faults = app.clear_faults
        self.now = app.clock.now
        self.pause_webhooks = app.deliveries.pause
        self.redeliver = app.redeliver
        self.requests = app.log.list
        self.reset = app.reset
        self.restore = app.restore
        self.snapshot = app.snapshot

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

    def add_account(self, api_key: str, account: str = "acct_other") -> "Sandbox":
        """Run a second account, with its own key, behind the same address.

        Its clock moves on its own, and it has no control API and no pages.
        """
        app = StripeApp(api_key=api_key, account=account)
        app.public_url = self.url
        app.deliveries.start()
        self.server.others[api_key] = app
        return Sandbox(self.server, api_key, app)

    def fault(
        self,
        kind: Kind,
        *,
        method: str | None = "POST",
        path: str = "",
        params: Mapping[str, Any] | None = None,
        when: When = "before",
        times: int | None = 1,
        chance: float = 1.0,
        seconds: float = 0.0,
        status: int = 500,
        error: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Add an `ApiFault` for the next matching requests and return its id.

        `when="after"`: the request is executed and stored before it fails. `chance` is
        the probability for each matching request, repeatable with a seed.
        """
        fault = ApiFault(
            kind,
            method=method,
            path=path,
            params=dict(params or {}),
            when=when,
            times=times,
            chance=chance,
            seconds=seconds,
            status=status,
            error=dict(error or {}),
            headers=dict(headers or {}),
        )
        return self.app.faults.add(fault).id

    def webhook_fault(
        self,
        kind: WebhookKind,
        type: str = "*",
        *,
        times: int | None = 1,
        chance: float = 1.0,
        seconds: int = 0,
    ) -> str:
        """Add a `WebhookFault` for the next matching events and return its id."""
        fault = WebhookFault(kind, type, times=times, chance=chance, seconds=seconds)
        return self.app.webhook_faults.add(fault).id

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


@contextmanager
def running_sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    state: str | Path | None = None,
    clock_file: Path | None = None,
    api_key: str | None = None,
    account: str = ACCOUNT,
    seed: int | None = None,
    webhook_url: str | None = None,
    webhook_secret: str = WEBHOOK_SECRET,
    webhook_events: list[str] | None = None,
    post: Post | None = None,
    retry_delays: tuple[float, ...] | None = None,
) -> Iterator[Sandbox]:
    """Run a sandbox during the block, by default on a free port of 127.0.0.1.

    `post(url, body, headers) -> status` replaces the HTTP requests of deliveries.
    Raises CannotListen or UnreadableState.
    """
    app = StripeApp(
        state=state,
        clock_file=clock_file,
        api_key=api_key,
        account=account,
        seed=seed,
        post=post,
        retry_delays=retry_delays,
    )
    with closing(app):
        server = StripeServer(app, host, port)
        if webhook_url:
            app.register_endpoint(
                webhook_url, secret=webhook_secret, events=webhook_events
            )
        with serving(server):
            yield Sandbox(server, api_key or API_KEY)
