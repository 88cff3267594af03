"""`python -m sandbox.stripe`: the sandbox as a process of its own."""

import argparse
import signal
import sys
import threading

from sandbox.stripe.app import StripeApp
from sandbox.stripe.server import StripeServer


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    options = _parser().parse_args(arguments)
    app = StripeApp(state=options.state, api_key=options.api_key)
    try:
        server = StripeServer(app, options.host, options.port)
    except OSError as error:
        print(
            f"sandbox Stripe cannot listen on {options.host}:{options.port}: "
            f"{error.strerror or error}",
            file=sys.stderr,
        )
        return 1
    if options.webhook_url:
        app.register_endpoint(
            options.webhook_url,
            secret=options.webhook_secret,
            events=[name.strip() for name in options.events.split(",")],
        )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    server.start()
    print(f"sandbox Stripe on {server.url}", flush=True)
    stopped.wait()
    server.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.stripe", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111, help="0 takes a free one")
    parser.add_argument("--state", metavar="FILE", help="SQLite file to keep state in")
    parser.add_argument("--api-key", help="the only key accepted (else any test key)")
    parser.add_argument("--webhook-url", help="where events are delivered")
    parser.add_argument("--webhook-secret", help="whsec_… that signs deliveries")
    parser.add_argument("--events", default="*", help="comma list of types, or *")
    return parser


if __name__ == "__main__":
    sys.exit(main())
