"""How the API describes itself (OpenAPI 3.1): its answers, and each code of its errors.

The codes of an operation are those of the exceptions that it names, so that what is
documented and what is raised are the same classes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers

from api.exceptions import InvalidCursor, InvalidParameter, UnknownParameter
from api.lists import ListParams
from caravel.core.exceptions import (
    BodyTooLarge,
    CaravelError,
    Unavailable,
    UnknownField,
)
from caravel.core.web.throttling import Throttled
from caravel.nostr import npub, pubkey_of
from lightning.exceptions import PaymentInProgress
from relays.exceptions import PaymentOverdue, RelayIsDelinquent
from tenants import exceptions as auth

View = TypeVar("View", bound=Callable[..., Any])
Form = type[serializers.Serializer[Any]]

AUTH = (
    auth.AuthMissing,
    auth.AuthMalformed,
    auth.AuthNotSigned,
    auth.AuthWrongKind,
    auth.AuthExpired,
    auth.AuthTooEarly,
    auth.AuthWrongUrl,
    auth.AuthWrongMethod,
    auth.AuthPayloadMissing,
    auth.AuthWrongPayload,
    auth.AuthReused,
)
#: Codes by status, each with what it means.
Codes = Mapping[int, Mapping[str, str]]


class NostrScheme(OpenApiAuthenticationExtension):
    """NIP-98 in the terms of OpenAPI."""

    target_class = "tenants.authentication.NostrAuthentication"
    name = "nostr"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "nostr",
            "description": NIP_98,
        }


NIP_98 = (
    "[NIP-98](https://github.com/nostr-protocol/nips/blob/master/98.md): "
    "`Authorization: Nostr <base64 of a signed event of kind 27235>`. Its tags: `u`, "
    "the exact address with its query; `method`; and with a body `payload`, the body's "
    "SHA-256 in hex. It is good once, within 60 seconds of its `created_at`: sign each "
    "request anew, with something random in it (a tag `nonce`), since two equal ones "
    "of one second would be one event. On this page, a Nostr extension of the browser "
    "(NIP-07) signs what you try out."
)


def describe(
    summary: str,
    *,
    answer: Form,
    many: bool = False,
    body: Form | None = None,
    query: Form | None = None,
    statuses: Sequence[int] = (200,),
    errors: Iterable[type[CaravelError]] = (),
    examples: Mapping[str, Any] | None = None,
    is_open: bool = False,
) -> Callable[[View], View]:
    """Describe an operation: body and query, answers, and the codes that it fails by.

    What all operations fail by need not be given.
    """
    common = (Throttled, Unavailable) if is_open else (*AUTH, Throttled, Unavailable)
    is_page = query is not None and issubclass(query, ListParams)
    codes = _codes([*common, *errors, *_of_query(query), *_of_body(body)])
    responses = {
        **dict.fromkeys(statuses, OpenApiResponse(_envelope(answer, many, is_page))),
        **{status: _failure(each) for status, each in codes.items()},
    }
    return extend_schema(
        operation_id=summary.lower().replace(" ", "_").replace("'", ""),
        summary=summary,
        request=body,
        parameters=[query] if query else [],
        responses=responses,
        examples=[
            OpenApiExample(name, value=value, request_only=True)
            for name, value in (examples or {}).items()
        ],
    )


def add_signing_guide(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Say at the top who signs what: where it belongs, few would find it."""
    info = result["info"]
    robot = npub(pubkey_of(settings.ROBOT_SECRET))
    info["description"] = (
        f"{info['description']} This service signs receipts as `{robot}`."
        f"\n\nEach request is signed: {NIP_98}"
    )
    return result


def exclude_non_api(endpoints: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Keep what tenants call: the webhook is Stripe's, the description itself ours."""
    own = ("/api/schema", "/api/docs")
    return [
        each for each in endpoints if each[0].startswith("/api/") and each[0] not in own
    ]


@cache
def _envelope(answer: Form, many: bool, is_page: bool) -> Form:
    """Return the envelope of `caravel.core.web.envelope.success` and `api.lists`."""
    name = answer.__name__.removesuffix("Serializer")
    fields: dict[str, Any] = {
        "data": answer(many=True) if many else answer(),
        "code": serializers.ChoiceField(["ok"]),
    }
    if is_page:
        fields["next"] = serializers.URLField(
            allow_null=True, help_text="The address of the next page, if there is one."
        )
    kind = "Page" if is_page else "List" if many else "Answer"
    return type(f"{name}{kind}", (serializers.Serializer,), fields)


def _failure(codes: Mapping[str, str]) -> OpenApiResponse:
    schema = {
        "type": "object",
        "required": ["error", "code"],
        "properties": {
            "error": {"type": "string", "description": "A sentence for people."},
            "code": {"type": "string", "enum": sorted(codes)},
            **{name: _DETAILS[name] for name in sorted(_details(codes))},
        },
    }
    lines = [f"- `{code}`: {meaning}" for code, meaning in sorted(codes.items())]
    return OpenApiResponse(schema, description="\n".join(lines))


#: What some errors say besides, by its name in the answer.
_DETAILS: Mapping[str, Any] = {
    "until": {
        "type": "string",
        "format": "date-time",
        "description": "When it is known at the latest, if that can be told.",
    },
    "payment_url": {
        "type": ["string", "null"],
        "format": "uri",
        "description": "Where the oldest unpaid invoice is paid, without a login.",
    },
}


def _details(codes: Mapping[str, str]) -> set[str]:
    unpaid = {PaymentOverdue.code, RelayIsDelinquent.code} & codes.keys()
    names = {"payment_url"} if unpaid else set()
    return names | ({"until"} if PaymentInProgress.code in codes else set())


def _codes(errors: Iterable[type[CaravelError] | tuple[int, str, str]]) -> Codes:
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for error in errors:
        if isinstance(error, tuple):
            status, code, meaning = error
            found[status][code] = meaning
            continue
        for code, meaning in error.codes().items():
            found[error.status][code] = meaning
    return found


def _of_query(query: Form | None) -> list[Any]:
    if query is None:
        return [UnknownParameter]
    is_list = issubclass(query, ListParams)
    return [UnknownParameter, InvalidParameter, *([InvalidCursor] if is_list else [])]


def _of_body(body: Form | None) -> list[Any]:
    """Return what is wrong with bodies, field by field."""
    if body is None:
        return []
    fields: Mapping[str, Any] = body().fields
    return [
        BodyTooLarge,
        UnknownField,
        (400, "parse-error", "The body is not JSON."),
        (422, "invalid", "The body is not an object."),
        *(
            (422, f"{_slug(name)}-invalid", f"`{name}` is not as it must be.")
            for name in fields
        ),
        *(
            (422, f"{_slug(name)}-required", f"`{name}` is missing.")
            for name, field in fields.items()
            if field.required
        ),
    ]


def _slug(name: str) -> str:
    return name.replace("_", "-")
