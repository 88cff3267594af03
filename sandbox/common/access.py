"""Access control: loopback only, no cross-site requests, no DNS rebinding."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from sandbox.common.http import Request


def denial_reason(request: Request) -> str | None:
    """Return why a client may not use the control API and pages, or None."""
    if not is_loopback(request.client):
        return "only this machine has access"
    host = request.headers.get("host", "")
    # DNS rebinding: reject any Host that is not a loopback name.
    if host and not is_local(request):
        return f"{host} is not a name of this machine"
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "other sites have no access"
    cross_site = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if cross_site and not _is_navigation(request):
        return "other sites have no access"
    return None


def is_local(request: Request) -> bool:
    """Return whether the Host of a request is a name of this machine."""
    return is_loopback(_name(f"//{request.headers.get('host', '')}"))


def is_loopback(name: str) -> bool:
    """Return whether a host name or an IP address is a loopback one."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_navigation(request: Request) -> bool:
    """Return whether a browser follows a link from another site.

    Applications link to the invoice and portal pages. The linking site cannot read
    the response.
    """
    headers = request.headers
    mode, into = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return request.method == "GET" and (mode, into) == ("navigate", "document")


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
