"""The relay information document over HTTP (NIP-11)."""

import json
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from sandbox.nostr.settings import RelaySettings

MEDIA_TYPE = "application/nostr+json"


def information(settings: RelaySettings) -> dict[str, object]:
    """Return the NIP-11 document."""
    nips = {40: settings.honours_expiration, 42: settings.requires_auth}
    return {
        "name": settings.name,
        "description": "A stand-in for development and tests",
        "supported_nips": [1, 11, *(nip for nip, honoured in nips.items() if honoured)],
        "software": "caravel",
        "limitation": {
            "max_message_length": settings.max_message_bytes,
            "max_subscriptions": settings.max_subscriptions,
            "max_subid_length": 64,
            "max_limit": settings.max_limit,
            "auth_required": settings.requires_auth,
        },
    }


def answer(request: Request, settings: RelaySettings) -> Response | None:
    """Return the document if the request asks for it, None for a WebSocket."""
    if MEDIA_TYPE not in ",".join(request.headers.get_all("Accept")).lower():
        return None
    body = json.dumps(information(settings)).encode()
    headers = Headers(
        {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(body)),
            "Access-Control-Allow-Origin": "*",
            "Connection": "close",
        }
    )
    return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, headers, body)
