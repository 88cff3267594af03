"""The page of a relay for people who open its address in a browser.

zooid has a template for it, which an operator may replace; this one is our own.
"""

from html import escape

from sandbox.common.http import Response
from sandbox.zooid.configs import Config

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<body style="font-family: system-ui; max-width: 40em; margin: 4em auto; padding: 0 1em">
<h1>{name}</h1>
<p style="white-space: pre-line">{description}</p>
<p>A Nostr relay. Add <code>{url}</code> to a Nostr client.</p>
"""


def respond(config: Config, url: str) -> Response:
    """Return the page of a relay at this address."""
    info = config["info"]
    texts = {
        "name": info.get("name") or config["host"],
        "description": info.get("description", ""),
        "url": url,
    }
    page = _PAGE.format_map({name: escape(text) for name, text in texts.items()})
    return Response(200, page.encode(), {"Content-Type": "text/html; charset=utf-8"})
