"""`python -m sandbox.stripe`: the sandbox as a process of its own."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from sandbox.stripe.app import StripeApp
from sandbox.stripe.journal import UnreadableState
from sandbox.stripe.server import StripeServer
from sandbox.stripe.testing import API_KEY, WEBHOOK_SECRET


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.stripe", description=__doc__
    )
    add_arguments(parser)
    return serve(parser.parse_args(arguments))


def serve(options: argparse.Namespace, *, explain: bool = False) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    With `explain` it also says how to use it.
    """
    try:
        app = StripeApp(
            state=options.state,
            api_key=options.api_key,
            seed=options.seed,
            clock_file=options.clock_file,
        )
    except UnreadableState as error:
        print(error, file=sys.stderr)
        return 1
    try:
        server = StripeServer(app, options.host, options.port)
    except OSError as error:
        print(
            f"sandbox Stripe cannot listen on {options.host}:{options.port}: "
            f"{error.strerror or error}",
            file=sys.stderr,
        )
        app.close()
        return 1
    _register(app, options)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    server.start()
    print(f"sandbox Stripe on {server.url}", flush=True)
    if explain:
        print(_explanation(server.url, options), flush=True)
    stopped.wait()
    server.stop()
    return 0


def _register(app: StripeApp, options: argparse.Namespace) -> None:
    if options.webhook_url:
        app.register_endpoint(
            options.webhook_url,
            secret=options.webhook_secret,
            events=[name.strip() for name in options.events.split(",")],
        )


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare what the sandbox can be told at its start."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111, help="0 takes a free one")
    parser.add_argument("--state", metavar="FILE", help="SQLite file to keep state in")
    parser.add_argument(
        "--clock-file",
        type=Path,
        metavar="FILE",
        help="says how far the clock is ahead, for processes that follow it",
    )
    parser.add_argument("--seed", type=int, help="makes ids and chances repeatable")
    parser.add_argument("--api-key", help="the only key accepted (else any test key)")
    parser.add_argument("--webhook-url", help="where events are delivered")
    parser.add_argument(
        "--webhook-secret",
        default=WEBHOOK_SECRET,
        help=f"whsec_… that signs deliveries ({WEBHOOK_SECRET} if not given)",
    )
    parser.add_argument("--events", default="*", help="comma list of types, or *")


def _explanation(url: str, options: argparse.Namespace) -> str:
    key = options.api_key or API_KEY
    accepted = "" if options.api_key else "  (any other sk_test_… will do)"
    webhooks = "none; --webhook-url tells where to deliver events"
    if options.webhook_url:
        webhooks = f"{options.webhook_url}, signed with {options.webhook_secret}"
    return f"""
  key       {key}{accepted}
  page      {url}/
  control   {url}/_sandbox/state
  state     {options.state or "in memory, gone when it ends"}
  webhooks  {webhooks}

  curl {url}/v1/customers -u {key}: -d email=ann@example.com

  import stripe
  client = stripe.StripeClient("{key}", base_addresses={{"api": "{url}"}})
  client.v1.customers.create({{"email": "ann@example.com"}})

Ctrl-C stops it."""


if __name__ == "__main__":
    sys.exit(main())
