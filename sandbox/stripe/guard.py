"""Who may use the control interface: programs on this machine, no web site."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from sandbox.stripe.protocol.http import Request, Response, json_response


def refusal(request: Request, client: str) -> Response | None:
    """Return the 403 for whoever may not control the sandbox, None for who may."""
    if not is_loopback(client):
        return _refused("control is for this machine only")
    host = request.headers.get("host", "")
    # A name that a site points at 127.0.0.1 makes the browser take us for that site.
    if host and not is_loopback(_name(f"//{host}")):
        return _refused(f"control does not answer to the name {host}")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return _refused("control is not for other sites")
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return _refused("control is not for other sites")
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


def _refused(why: str) -> Response:
    return json_response(403, {"error": why})
