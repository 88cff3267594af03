"""The sandbox over HTTP: API, control API and pages on one port, timers beside them."""

import logging
import threading

from sandbox.common.http import Request, Steps, in_thread
from sandbox.common.server import Server
from sandbox.stripe.api import auth
from sandbox.stripe.app import StripeApp
from sandbox.stripe.control import routes as control
from sandbox.stripe.pages import routes as pages

logger = logging.getLogger(__name__)
TIMER_INTERVAL = 1.0


class StripeServer(Server):
    """Server of an app; `start` and `stop` control its threads."""

    def __init__(self, app: StripeApp, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(self._handle_request, port, name="Stripe", host=host)
        self.app = app
        app.public_url = self.url
        #: Other accounts on this server, by their API key.
        self.others: dict[str, StripeApp] = {}
        self._stopping = threading.Event()
        self._timers = threading.Thread(target=self._run_timers, daemon=True)

    def start(self) -> None:
        """Start threads that serve requests, deliver webhooks and run timers."""
        self.app.deliveries.start()
        self._timers.start()
        super().start()

    def stop(self) -> None:
        """Stop serving and running timers; the app stays open."""
        self._stopping.set()
        self.app.release_delayed()
        super().stop()
        self._timers.join()
        for other in self.others.values():
            other.close()

    def _handle_request(self, request: Request) -> Steps:
        """Pass the request to the pages, the control API or the API."""
        if pages.serves(request):
            return in_thread(pages.handle, self.app, request)
        if control.serves(request):
            return in_thread(control.handle, self.app, request)
        return self.others.get(auth.get_key(request), self.app).respond(request)

    def _run_timers(self) -> None:
        while not self._stopping.wait(TIMER_INTERVAL):
            try:
                self.app.run_due(self.app.clock.now())
            except Exception:
                logger.exception("a timer failed")
