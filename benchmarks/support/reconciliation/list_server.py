"""A Stripe that only lists subscriptions: copies of one, made when they are read.

    python -m benchmarks.support.reconciliation.list_server FILE NUMBER SECONDS

The file is what `save` has written. So its memory does not grow with the number, and it
takes little time for a page.
"""

import json
import sys
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from urllib.parse import parse_qs

from benchmarks.support.reconciliation.names import (
    INTERVAL,
    NEWEST,
    Template,
    rename,
)
from benchmarks.support.wire import Wire
from sandbox.common import command
from sandbox.common.http import Request, Response, Steps
from sandbox.common.server import Server, serving

JSON = {"Content-Type": "application/json"}


def save(path: Path, url: str, template: Template) -> None:
    """Write what the server needs: Stripe's account, and one subscription."""
    wire = Wire(url)
    content = {
        "template": asdict(template),
        "account": wire.get("/v1/account").decode(),
        "subscription": wire.get(f"/v1/subscriptions/{template.subscription}").decode(),
    }
    wire.close()
    path.write_text(json.dumps(content))


class Lists:
    """The answers to requests."""

    def __init__(self, path: Path, number: int, seconds: float) -> None:
        content = json.loads(path.read_text())
        self._template = Template(**content["template"])
        self._account: str = content["account"]
        self._subscription: str = content["subscription"]
        self._copies = number - 1
        self._seconds = seconds

    def respond(self, request: Request) -> Steps:
        """Answer after the latency."""
        yield self._seconds
        if request.path == "/v1/account":
            return Response(200, self._account.encode(), JSON)
        return Response(200, self._page(request.query).encode(), JSON)

    def _page(self, query: str) -> str:
        """Return a page, newest first."""
        values = {name: text[0] for name, text in parse_qs(query).items()}
        first, last, limit = 1, NEWEST, int(values["limit"])
        if "created[gte]" in values:
            first = max(first, self._at(values["created[gte]"]))
        if "created[lt]" in values:
            last = min(last, self._at(values["created[lt]"]) - 1)
        if "starting_after" in values:
            last = self._number_of(values["starting_after"]) - 1
        newest = [NEWEST] if first <= NEWEST <= last else []
        others = range(min(last, self._copies), first - 1, -1)
        chosen = list(islice(chain(newest, others), limit + 1))
        bodies = ",".join(map(self._body, chosen[:limit]))
        has_more = "true" if len(chosen) > limit else "false"
        return (
            '{"object":"list","url":"/v1/subscriptions",'
            f'"has_more":{has_more},"data":[{bodies}]}}'
        )

    def _body(self, number: int) -> str:
        if number == NEWEST:
            return self._subscription
        return rename(self._template, self._subscription, number)

    def _number_of(self, subscription: str) -> int:
        if subscription == self._template.subscription:
            return NEWEST
        return int(subscription.removeprefix("sub_"))

    def _at(self, created: str) -> int:
        """Return the number of the first copy created then or later."""
        return -(-(int(created) - self._template.created) // INTERVAL)


def main(path: str, number: str, seconds: str) -> int:
    """Serve until SIGTERM."""
    lists = Lists(Path(path), int(number), float(seconds))
    server = Server(lists.respond, name="lists")
    return command.serve("lists", serving(server))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
