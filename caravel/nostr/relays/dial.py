"""Connect to a relay, and refuse private addresses of untrusted relays.

An untrusted relay URL must not reach our own network (SSRF). The name is resolved here
for each connection, and the socket connects to an address that was checked, so DNS
rebinding has no effect. Redirects and proxies are not followed.
"""

import asyncio
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect

from caravel.core.exceptions import CaravelError
from caravel.nostr.relays.time_share import RelayTime
from caravel.nostr.relays.websocket import MeteredConnection

logger = structlog.get_logger(__name__)

#: Seconds for DNS, TCP, TLS and the websocket handshake together.
CONNECT_TIMEOUT = 10.0
#: Number of bytes of a message that ends the connection. It is more than the usual
#: relay accepts: no wallet may thus cut off others that use the same relay.
_MAX_MESSAGE = 512 * 1024
#: Maximum number of threads that resolve names, and of those for one domain.
_MAX_LOOKUPS, _MAX_LOOKUPS_PER_DOMAIN = 64, 8
#: Second-level domains of countries under which everybody gets a domain, like co.uk.
_SHARED_DOMAINS = {"ac", "co", "com", "edu", "gov", "ne", "net", "or", "org"}
#: Domains that only a private network resolves (RFC 6761, 6762, 8375, and ICANN's
#: `internal`), and those that need another network's software, like Tor.
_PRIVATE_DOMAINS = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
_OTHER_NETWORKS = (".onion", ".i2p")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Global unicast (RFC 4291, 2.4). Python also calls old site-local addresses global.
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
# Python calls these public: special-purpose networks (RFC 6890, 7526), in which some
# clouds serve credentials, and the address of the host of a virtual machine at Azure.
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")
]


class RelayUnreachable(CaravelError):
    """No connection to the relay: nothing was sent."""

    code = "relay-unreachable"
    status = 503


class PrivateAddress(RelayUnreachable):
    """The relay's name resolves to an address that is not public.

    Code and message are the same as of a relay that does not answer: tenants must not
    learn which names our network resolves.
    """


@dataclass(frozen=True)
class Endpoint:
    """URL of a relay, whether a private address is allowed, and whether it is ours.

    Ours are those that the operator has named.
    """

    url: str
    private_allowed: bool = False
    is_ours: bool = False

    @property
    def host(self) -> str:
        """Host and port, for messages and logs."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def hostname(self) -> str:
        """Host without the port, "" if there is none."""
        return urlsplit(self.url).hostname or ""


def normalize_relay_url(text: str) -> str:
    """Return a relay's URL with the host in lower case, or "" if it is invalid.

    URLs with a fragment, a user name or a password are invalid.
    """
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ""
    is_url = re.fullmatch(r"wss?://\S+", text, re.IGNORECASE) and text.isprintable()
    if not has_host or not is_url or "@" in parts.netloc or parts.fragment:
        return ""
    return parts._replace(netloc=parts.netloc.lower()).geturl()


def may_answer(url: str, *, private_allowed: bool) -> bool:
    """Return whether a valid relay URL names a host that can be dialled at all."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host.endswith(_OTHER_NETWORKS):
        return False
    return private_allowed or not is_private_host(host)


def is_private_host(host: str) -> bool:
    """Return whether a host is private by its spelling alone, without DNS."""
    host = host.rstrip(".").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_DOMAINS)
    return not is_public(host)


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet.

    For an IPv6 address that embeds an IPv4 address, the latter is checked.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
        if ip not in _GLOBAL_IPV6:
            return False
    if any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def dial(endpoint: Endpoint, relay_time: RelayTime) -> ClientConnection:
    """Connect to a relay. Raises RelayUnreachable, or its subclass PrivateAddress."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            sock = await _socket(endpoint)
            return await _websocket(endpoint, sock, relay_time)
    except PrivateAddress:
        raise
    except Exception as exc:  # an untrusted name or server can cause any exception
        raise RelayUnreachable(_no_answer(endpoint)) from exc


def _no_answer(endpoint: Endpoint) -> str:
    return f"The relay {endpoint.host} does not answer."


async def _websocket(
    endpoint: Endpoint, sock: socket.socket, relay_time: RelayTime
) -> ClientConnection:
    def create(*args: Any, **kwargs: Any) -> MeteredConnection:
        return MeteredConnection(*args, relay_time=relay_time, **kwargs)

    secure = endpoint.url.startswith("wss:")
    try:
        return await connect(
            endpoint.url,
            sock=sock,
            ssl=_tls_context() if secure else None,
            compression=None,
            max_size=_MAX_MESSAGE,
            max_queue=None,
            open_timeout=None,
            close_timeout=1,
            create_connection=cast(type[ClientConnection], create),
        )
    except BaseException:
        sock.close()
        raise


async def _socket(endpoint: Endpoint) -> socket.socket:
    """Return a socket connected to the first of the relay's addresses that answers."""
    # A name server that does not answer occupies a thread for half a minute. So names
    # of strangers do not share threads with our relays.
    names = _names(os.getpid(), endpoint.is_ours)
    # Shielded: others may wait for the same answer.
    infos = await asyncio.shield(asyncio.wrap_future(names.resolve(endpoint)))
    if not endpoint.private_allowed and not all(is_public(str(i[4][0])) for i in infos):
        logger.info("relay_address_private", relay=endpoint.host)
        raise PrivateAddress(_no_answer(endpoint))
    error: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in infos:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT / len(infos)):
                return await _connect(socket.socket(family, kind, protocol), address)
        except OSError as exc:
            error = exc
    raise error


async def _connect(sock: socket.socket, address: Any) -> socket.socket:
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


class _Names:
    """Threads that resolve names, with a limit for each domain.

    getaddrinfo() cannot be cancelled: names of one slow name server would occupy all.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MAX_LOOKUPS, thread_name_prefix="names")
        self._lock = threading.Lock()
        #: Lookups that have not ended, by name and port.
        self._running: dict[tuple[str, int], Future[list[Any]]] = {}

    def resolve(self, endpoint: Endpoint) -> "Future[list[Any]]":
        """Resolve the name in a thread. Raises OSError at the domain's limit."""
        parts = urlsplit(endpoint.url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        key = endpoint.hostname, port
        with self._lock:
            if running := self._running.get(key):
                return running
            self._check_limit(key[0])
            deadline = time.monotonic() + CONNECT_TIMEOUT
            lookup = self._threads.submit(_look_up, *key, deadline)
            self._running[key] = lookup
        lookup.add_done_callback(lambda _: self._remove(key))
        return lookup

    def _check_limit(self, hostname: str) -> None:
        if hostname.rpartition(".")[2].isdecimal():
            return
        domains = [_domain(running) for running, _ in self._running]
        if domains.count(_domain(hostname)) >= _MAX_LOOKUPS_PER_DOMAIN:
            raise OSError("too many names of this domain are being resolved")

    def _remove(self, key: tuple[str, int]) -> None:
        with self._lock:
            self._running.pop(key, None)


def _look_up(hostname: str, port: int, deadline: float) -> list[Any]:
    if time.monotonic() > deadline:
        raise TimeoutError("nobody waits for this name any more")
    return socket.getaddrinfo(hostname, port, type=socket.SOCK_STREAM)


def _domain(hostname: str) -> str:
    """Return the registered domain of a name, whose owner runs its name server."""
    labels = hostname.rstrip(".").split(".")
    is_shared = len(labels[-1]) == 2 and labels[-2:-1] and labels[-2] in _SHARED_DOMAINS
    return ".".join(labels[-3 if is_shared else -2 :])


@cache
def _names(pid: int, is_ours: bool) -> _Names:
    """Return the threads of this process that resolve names."""
    return _Names()


@cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()
