"""A Stripe that only lists subscriptions: copies of one, made when they are read.

    python -m benchmarks.support.reconciliation.list_server FILE NUMBER SECONDS

The file is what `save` has written. So its memory does not grow with the number, and it
takes little time for a page.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from urllib.parse import parse_qs

from benchmarks.support.reconciliation.names import INTERVAL, Template, rename
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
        self._body: str = content["subscription"]
        self._number = number
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
        first, last = 1, self._number
        if "created[gte]" in values:
            first = max(first, self._at(values["created[gte]"]))
        if "created[lt]" in values:
            last = min(last, self._at(values["created[lt]"]) - 1)
        if "starting_after" in values:
            last = int(values["starting_after"].removeprefix("sub_")) - 1
        chosen = range(last, first - 1, -1)[: int(values["limit"])]
        bodies = (rename(self._template, self._body, number) for number in chosen)
        has_more = "true" if last - first + 1 > len(chosen) else "false"
        return (
            '{"object":"list","url":"/v1/subscriptions",'
            f'"has_more":{has_more},"data":[{",".join(bodies)}]}}'
        )

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
