"""The OpenAPI 3.1 description: requests, responses and every error code.

Each view names the exceptions that it may raise; their codes and docstrings become the
documented errors.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers

from api.exceptions import InvalidCursor, InvalidParameter, UnknownParameter
from api.lists import ListQuerySerializer
from caravel.core.exceptions import (
    BodyTooLarge,
    CaravelError,
    Unavailable,
    UnknownField,
)
from caravel.core.web.throttling import Throttled
from caravel.nostr import npub, pubkey_of
from lightning.exceptions import PaymentInProgress
from relays.exceptions import (
    MembersExceedPlan,
    PaymentOverdue,
    RelayIsDelinquent,
    UnpaidRelayQuota,
)
from tenants import exceptions as auth

View = TypeVar("View", bound=Callable[..., Any])
SerializerClass = type[serializers.Serializer[Any]]

#: Every signed operation may raise these.
AUTH_ERRORS = (
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
#: drf-spectacular's schemas of `""` beside an enum, and beside a formatted text.
_BLANK_ENUM = {"$ref": "#/components/schemas/BlankEnum"}
_BLANK_TEXT = {"type": "string", "maxLength": 0}
#: Meaning of each code, by HTTP status.
Codes = Mapping[int, Mapping[str, str]]


class NostrScheme(OpenApiAuthenticationExtension):
    """The OpenAPI security scheme for NIP-98."""

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
    "`Authorization: Nostr <base64 of a signed event of kind 27235>`, in either "
    "alphabet of base64, with or without padding. The event's tags: `u`, the exact URL "
    "including the query; `method`, in capitals or not; and, if there is a body, "
    "`payload`, the SHA-256 of the body in hex. An event is valid once, within 60 "
    "seconds of its `created_at`. Sign every request separately and add a random tag "
    "(`nonce`): otherwise two equal requests of one second are the same event, and the "
    "second fails with `auth-reused`. On this page your browser's Nostr extension "
    "(NIP-07) signs the requests that you try out."
)


def describe(
    summary: str,
    *,
    response: SerializerClass | str,
    many: bool = False,
    body: SerializerClass | None = None,
    query: SerializerClass | None = None,
    statuses: Sequence[int] = (200,),
    errors: Iterable[type[CaravelError]] = (),
    examples: Mapping[str, Any] | None = None,
    is_public: bool = False,
) -> Callable[[View], View]:
    """Document an operation: request, responses and error codes.

    The response is a serializer in the envelope, or the media type of a file.

    Errors common to all operations are added here, as are those of query and body.
    """
    common = [*(() if is_public else AUTH_ERRORS), Throttled, Unavailable]
    is_page = query is not None and issubclass(query, ListQuerySerializer)
    codes = _codes([*common, *errors, *_query_errors(query), *_body_errors(body)])
    responses = {
        **_success_responses(response, statuses, many, is_page),
        **{status: _error_response(each) for status, each in codes.items()},
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
    """Explain signing at the top of the page."""
    # Swagger UI shows a security scheme only behind its "Authorize" button, which the
    # page hides: there is nothing to authorize once.
    info = result["info"]
    robot = npub(pubkey_of(settings.ROBOT_SECRET))
    info["description"] = (
        f"{info['description']} This service signs receipts as `{robot}`."
        f"\n\nEach request is signed: {NIP_98}"
    )
    return result


def describe_empty_strings(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Make `""` a value of the enums that have it, and of formatted texts.

    drf-spectacular describes both with `oneOf`. A union of two enums is more than some
    generators of clients can compile, and `""` would match both branches of the other:
    a format is not checked by default.
    """
    schemas = result["components"]["schemas"]
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            if _BLANK_ENUM in field.get("oneOf", ()):
                reference, _ = field.pop("oneOf")
                values = schemas[reference["$ref"].rpartition("/")[2]]["enum"]
                values.extend({""}.difference(values))
                field["allOf"] = [reference]
            elif _BLANK_TEXT in field.get("oneOf", ()):
                field["anyOf"] = field.pop("oneOf")
    schemas.pop("BlankEnum", None)
    return result


def exclude_non_api(endpoints: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Leave out the Stripe webhook, the payment page and the description itself."""
    description_urls = ("/api/schema", "/api/docs")
    return [
        each
        for each in endpoints
        if each[0].startswith("/api/") and each[0] not in description_urls
    ]


def _success_responses(
    response: SerializerClass | str, statuses: Sequence[int], many: bool, is_page: bool
) -> dict[Any, Any]:
    if isinstance(response, str):
        return {(status, response): OpenApiTypes.BINARY for status in statuses}
    content = OpenApiResponse(_envelope(response, many, is_page))
    return dict.fromkeys(statuses, content)


# Cached: drf-spectacular warns when two classes share a component name.
@cache
def _envelope(response: SerializerClass, many: bool, is_page: bool) -> SerializerClass:
    """Return a serializer for `caravel.core.web.envelope.success` or a page."""
    name = response.__name__.removesuffix("Serializer")
    fields: dict[str, Any] = {
        "data": response(many=True) if many else response(),
        "code": serializers.ChoiceField(["ok"]),
    }
    if is_page:
        fields["next"] = serializers.URLField(
            allow_null=True, help_text="URL of the next page; null on the last one."
        )
    kind = "Page" if is_page else "List" if many else "Response"
    return type(f"{name}{kind}", (serializers.Serializer,), fields)


def _error_response(codes: Mapping[str, str]) -> OpenApiResponse:
    schema = {
        "type": "object",
        "required": ["error", "code"],
        "properties": {
            "error": {"type": "string", "description": "A message for people."},
            "code": {"type": "string", "enum": sorted(codes)},
            **{name: _DETAILS[name] for name in sorted(_detail_names(codes))},
        },
    }
    lines = [f"- `{code}`: {meaning}" for code, meaning in sorted(codes.items())]
    return OpenApiResponse(schema, description="\n".join(lines))


#: Additional fields of some errors.
_DETAILS: Mapping[str, Any] = {
    "people": {
        "type": "integer",
        "description": "Number of members that the relay has.",
    },
    "limit": {
        "type": "integer",
        "description": "Number of members that the plan allows.",
    },
    "until": {
        "type": "string",
        "format": "date-time",
        "description": "When the pending payment will have ended at the latest; "
        "absent if unknown.",
    },
    "payment_url": {
        "type": ["string", "null"],
        "format": "uri",
        "description": "Page to pay the oldest unpaid invoice; needs no login.",
    },
}


def _detail_names(codes: Mapping[str, str]) -> set[str]:
    errors = (PaymentOverdue, RelayIsDelinquent, UnpaidRelayQuota)
    unpaid = {error.code for error in errors} & codes.keys()
    names = {"payment_url"} if unpaid else set()
    if MembersExceedPlan.code in codes:
        names |= {"people", "limit"}
    return names | ({"until"} if PaymentInProgress.code in codes else set())


def _codes(errors: Iterable[type[CaravelError] | tuple[int, str, str]]) -> Codes:
    by_status: dict[int, dict[str, str]] = defaultdict(dict)
    for error in errors:
        if isinstance(error, tuple):
            status, code, meaning = error
            by_status[status][code] = meaning
            continue
        for code, meaning in error.codes().items():
            by_status[error.status][code] = meaning
    return by_status


def _query_errors(query: SerializerClass | None) -> list[Any]:
    if query is None:
        return [UnknownParameter]
    is_list = issubclass(query, ListQuerySerializer)
    return [UnknownParameter, InvalidParameter, *([InvalidCursor] if is_list else [])]


def _body_errors(body: SerializerClass | None) -> list[Any]:
    """Return the errors of a request body, including two for each field."""
    if body is None:
        return []
    fields: Mapping[str, Any] = body().fields
    # Codes that `caravel.core.web.envelope` gives to DRF's own errors.
    return [
        BodyTooLarge,
        UnknownField,
        (400, "parse-error", "The body is not JSON."),
        (422, "invalid", "The body is not an object."),
        *(
            (422, f"{_slug(name)}-invalid", f"`{name}` has an invalid value.")
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
