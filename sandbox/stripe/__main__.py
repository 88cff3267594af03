"""Command `python -m sandbox.stripe`: run the Stripe sandbox as a process."""

import argparse
import sys
from functools import partial
from pathlib import Path

from sandbox.common import command
from sandbox.stripe.api.context import ACCOUNT
from sandbox.stripe.client.testing import WEBHOOK_SECRET, Sandbox, running_sandbox


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.stripe", description=__doc__
    )
    add_arguments(parser)
    return serve(parser.parse_args(arguments))


def serve(options: argparse.Namespace, *, explain: bool = False) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    With `explain`, also print how to use it.
    """
    running = running_sandbox(
        host=options.host,
        port=options.port,
        state=options.state,
        clock_file=options.clock_file,
        api_key=options.api_key,
        account=options.account,
        seed=options.seed,
        webhook_url=options.webhook_url,
        webhook_secret=options.webhook_secret,
        webhook_events=[name.strip() for name in options.events.split(",")],
    )
    explanation = partial(_explanation, options)
    return command.serve("Stripe", running, explanation if explain else None)


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
    parser.add_argument(
        "--account", default=ACCOUNT, help=f"acct_… id (default: {ACCOUNT})"
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


def _explanation(options: argparse.Namespace, sandbox: Sandbox) -> str:
    url, key = sandbox.url, sandbox.api_key
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
