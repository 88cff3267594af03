"""Command `python -m sandbox.stripe`: run the Stripe sandbox as a process."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from sandbox.common.server import CannotListen
from sandbox.common.state import UnreadableState
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.testing import API_KEY, WEBHOOK_SECRET
from sandbox.stripe.server import StripeServer


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.stripe", description=__doc__
    )
    add_arguments(parser)
    return serve(parser.parse_args(arguments))


def serve(options: argparse.Namespace, *, explain: bool = False) -> int:
    """Serve until SIGINT or SIGTERM and return the exit status.

    With `explain`, print usage examples at the start.
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
    except CannotListen as error:
        print(error, file=sys.stderr)
        app.close()
        return 1
    _register_endpoint(app, options)
    stopped = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stopped.set())
    server.start()
    print(f"sandbox Stripe on {server.url}", flush=True)
    if explain:
        print(_usage(server.url, options), flush=True)
    stopped.wait()
    server.stop()
    return 0


def _register_endpoint(app: StripeApp, options: argparse.Namespace) -> None:
    if options.webhook_url:
        app.register_endpoint(
            options.webhook_url,
            secret=options.webhook_secret,
            events=[name.strip() for name in options.events.split(",")],
        )


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the command-line options of the sandbox to a parser."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111, help="0 picks a free port")
    parser.add_argument(
        "--state", metavar="FILE", help="SQLite file that stores the state"
    )
    parser.add_argument(
        "--clock-file",
        type=Path,
        metavar="FILE",
        help="file with the clock offset, for other processes that follow it",
    )
    parser.add_argument(
        "--seed", type=int, help="makes ids and random faults repeatable"
    )
    parser.add_argument(
        "--api-key", help="the only API key accepted (default: any test key)"
    )
    parser.add_argument("--webhook-url", help="webhook endpoint that receives events")
    parser.add_argument(
        "--webhook-secret",
        default=WEBHOOK_SECRET,
        help=f"whsec_… that signs deliveries (default: {WEBHOOK_SECRET})",
    )
    parser.add_argument(
        "--events", default="*", help="event types, separated by commas, or *"
    )


def _usage(url: str, options: argparse.Namespace) -> str:
    key = options.api_key or API_KEY
    accepted = "" if options.api_key else "  (any other sk_test_… key works too)"
    webhooks = "none; set --webhook-url to receive events"
    if options.webhook_url:
        webhooks = f"{options.webhook_url}, signed with {options.webhook_secret}"
    return f"""
  key       {key}{accepted}
  page      {url}/
  control   {url}/_sandbox/state
  state     {options.state or "in memory, lost on exit"}
  webhooks  {webhooks}

  curl {url}/v1/customers -u {key}: -d email=ann@example.com

  import stripe
  client = stripe.StripeClient("{key}", base_addresses={{"api": "{url}"}})
  client.v1.customers.create({{"email": "ann@example.com"}})

Press Ctrl-C to stop."""


if __name__ == "__main__":
    sys.exit(main())
