"""Form decoding: `items[0][id]=x`, `metadata[a]=`, `expand[]=y`.

Error messages are Stripe's, as quoted by its users.
"""

import re
from typing import Any
from urllib.parse import parse_qsl

from sandbox.common.http import Request
from sandbox.stripe.api.errors import StripeError, rejected

KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
PART = re.compile(r"\[([^\[\]]*)\]")
# Well below Python's recursion limit, and above the depth of any Stripe parameter.
MAX_DEPTH = 20
CONTENT_TYPE = "application/x-www-form-urlencoded"


def read(request: Request) -> dict[str, Any]:
    """Return the parameters of the query string and the body. Raises a 400."""
    _check_content_type(request)
    try:
        body = request.body.decode()
        return decode("&".join(filter(None, (request.query, body))))
    except UnicodeDecodeError:
        raise _unreadable(
            "Invalid UTF-8 characters found in the request. For assistance, please "
            "contact support@stripe.com."
        ) from None


def decode(text: str) -> dict[str, Any]:
    """Return nested dicts of strings; lists are dicts keyed by their index.

    The parameter's declaration decides whether `x[0]` is a list or a hash. Raises a 400
    for a key that contradicts an earlier one, and UnicodeDecodeError.
    """
    decoded: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True, errors="strict"):
        match = KEY.match(key)
        parts = [match[1], *PART.findall(match[2])] if match else []
        if not parts or len(parts) > MAX_DEPTH:
            raise rejected(f"Invalid parameter name: {key}", param=key)
        _place(decoded, parts, value, key)
    return decoded


def _check_content_type(request: Request) -> None:
    content_type = request.headers.get("content-type", CONTENT_TYPE)
    kind = content_type.partition(";")[0].strip().lower()
    if not request.body or kind == CONTENT_TYPE:
        return
    if kind == "application/json":
        raise _unreadable(
            f"Invalid request (check that your POST content type is {CONTENT_TYPE}). "
            "If you have any questions, we can help at https://support.stripe.com/."
        )
    raise _unreadable(
        f"Invalid request: unsupported Content-Type {content_type}. If error persists "
        "and you need assistance, please contact support@stripe.com."
    )


def _unreadable(message: str) -> StripeError:
    return StripeError(400, message, stored=False)


def _place(target: dict[str, Any], parts: list[str], value: str, key: str) -> None:
    for part in parts[:-1]:
        target = target.setdefault(part or str(len(target)), {})
        if not isinstance(target, dict):
            raise rejected(f"Invalid hash: {key}", param=parts[0])
    last = parts[-1] or str(len(target))
    if isinstance(target.get(last), dict):
        raise rejected(f"Invalid string: {key}", param=parts[0])
    target[last] = value
