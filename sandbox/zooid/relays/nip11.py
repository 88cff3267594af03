"""The information document of a relay (NIP-11), as zooid and khatru write it."""

from sandbox.common.http import Request, Response, dump_json
from sandbox.zooid.configs import Config

CONTENT_TYPE = "application/nostr+json"
#: khatru answers requests of every site.
HEADERS = {"Content-Type": CONTENT_TYPE, "Access-Control-Allow-Origin": "*"}
#: zooid appends its own NIP as a text.
SUPPORTED_NIPS = (1, 9, 11, 42, 70, 77, 86, "43")


def is_asked(request: Request) -> bool:
    """Return whether a request asks for the document: the header must be exact."""
    return request.headers.get("accept") == CONTENT_TYPE


def respond(document: bytes) -> Response:
    """Return the response with a document."""
    return Response(200, document, HEADERS)


def render_document(config: Config, pubkey: str) -> bytes:
    """Return the document of a relay with this public key."""
    info = config["info"]
    texts = {name: info.get(name, "") for name in ("name", "description", "icon")}
    document = {
        **texts,
        "pubkey": info["pubkey"],
        "self": pubkey,
        "contact": "",
        "supported_nips": SUPPORTED_NIPS,
        "software": "https://github.com/coracle-social/zooid",
        "version": "v0.1.0",
    }
    return dump_json(document).encode()
