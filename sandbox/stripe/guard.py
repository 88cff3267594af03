"""Who may use control and pages: programs and people on this machine, no web site."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from sandbox.stripe.protocol.http import Request


def objection(request: Request, client: str) -> str | None:
    """Return why the client may not have what only this machine may, or None."""
    if not is_loopback(client):
        return "this is for this machine only"
    host = request.headers.get("host", "")
    # A name that a site points at 127.0.0.1 makes the browser take us for that site.
    if host and not is_loopback(_name(f"//{host}")):
        return f"this does not answer to the name {host}"
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "this is not for other sites"
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return "this is not for other sites"
    return None


def is_loopback(name: str) -> bool:
    """Return whether a name or an address stands for this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
