"""Stripe's error responses (docs: API reference, Errors)."""

from typing import Any


class StripeError(Exception):
    """An API request fails with an error response.

    `stored`: the response is saved under the idempotency key. `committed`: the changes
    up to here are not rolled back, as for a declined charge.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        stored: bool = True,
        committed: bool = False,
        **extra: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.stored = stored
        self.committed = committed
        self.fields = {
            "code": code,
            "message": message,
            "param": param,
            "type": type,
            **extra,
        }


def error_body(fields: dict[str, Any], *, request_id: str, now: int) -> dict[str, Any]:
    """Return Stripe's error object with the `fields` that are not None."""
    error = {key: value for key, value in fields.items() if value is not None}
    if code := error.get("code"):
        slug = str(code).replace("_", "-")
        error["doc_url"] = f"https://stripe.com/docs/error-codes/{slug}"
    error["request_log_url"] = (
        f"https://dashboard.stripe.com/test/logs/{request_id}?t={now}"
    )
    return {"error": error}


def invalid(
    message: str, *, param: str | None = None, code: str | None = None
) -> StripeError:
    """Return a 400 for an error during execution, saved under an idempotency key."""
    return StripeError(400, message, code=code, param=param)


def rejected(message: str, *, param: str, code: str | None = None) -> StripeError:
    """Return a 400 for an error before execution, not saved under a key."""
    return StripeError(400, message, code=code, param=param, stored=False)


def missing(noun: str, id: str, *, param: str = "id", status: int = 404) -> StripeError:
    """Return `resource_missing`: a 404 for an id in the URL, a 400 for a parameter."""
    return StripeError(
        status, f"No such {noun}: '{id}'", code="resource_missing", param=param
    )


def unrecognized_url(method: str, path: str) -> StripeError:
    """Return the 404 for a route that does not exist."""
    hint = ""
    if path.endswith("/"):
        hint = (
            " If you are trying to list objects, remove the trailing slash. If you are"
            " trying to retrieve an object, make sure you passed a valid (non-empty)"
            " identifier in your code."
        )
    return StripeError(
        404,
        f"Unrecognized request URL ({method}: {path}).{hint} Please see "
        "https://stripe.com/docs or we can help at https://support.stripe.com/.",
        stored=False,
    )
