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
    foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if foreign and not _follows_link(request):
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


def _follows_link(request: Request) -> bool:
    """Return whether a person goes from a site to here, which the site cannot read.

    So an application sends its customers to the pages of invoices and the portal.
    """
    headers = request.headers
    mode, into = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return request.method == "GET" and (mode, into) == ("navigate", "document")


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
