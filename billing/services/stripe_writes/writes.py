"""Writes to Stripe that must happen once: recorded, then sent, then resolved.

Stripe replays the first answer to an idempotency key, errors included, once execution
began (https://docs.stripe.com/api/idempotent_requests). So a retry repeats key and
parameters; a new key is used only after a definite answer, or when nothing came of the
old one for ten minutes and Stripe's lists show that nothing was created.
"""

import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from django.db import transaction
from django.utils import timezone

from billing import exceptions
from billing.models import StripeWrite
from caravel.core.redaction import redact

#: How long an unanswered request is sent again under its key.
RESEND_WINDOW = timedelta(minutes=2)
#: How long after the last try a request may still have its effect.
LATE_EFFECT_WINDOW = timedelta(minutes=10)

State = StripeWrite.State


class HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)
Send = Callable[[dict[str, Any], str], T]
Find = Callable[[StripeWrite], T | None]
#: Makes the parameters of a new write; the key lets them name their intent.
Params = Callable[[str], dict[str, Any]]
#: What must hold when a new write is recorded: it raises in that transaction.
Guard = Callable[[], None]
#: Stores what was made, in the transaction that resolves the intent.
Store = Callable[[T], None]


def nothing_else() -> None:
    """The guard of who has the right to write alone already."""


def fulfil(
    *,
    kind: StripeWrite.Kind,
    subject: str,
    tenant_id: str,
    params: Params,
    send: Send[T],
    find: Find[T],
    store: Store[T],
    guard: Guard = nothing_else,
) -> T:
    """Send a write, or finish the one that an earlier try left open.

    `send` gets the parameters and key of the intent, which are those of the first try;
    the caller converges by an update afterwards. `find` looks for what an earlier try
    may have created. `store` keeps what was made, together with the intent's end: no
    crash can come between. Raises WriteUnresolved while it is too early to tell, else
    what `send`, `find` and `guard` raise.
    """
    intent = StripeWrite.objects.of(kind, subject).pending().first()
    made = resume(intent, send=send, find=find) if intent else None
    if intent is None or made is None:
        with transaction.atomic():
            guard()
            intent = create_write(
                kind=kind, subject=subject, tenant_id=tenant_id, params=params
            )
        made = _send(intent, send)
    return keep(intent, made, store)


def resume(intent: StripeWrite, *, send: Send[T], find: Find[T]) -> T | None:
    """Return what a pending write has made, sending it (again) if nothing was found.

    Returns None when it had to be given up: nothing came of it. Raises WriteUnresolved
    while it is too early to tell, else what `send` and `find` raise.
    """
    if found := find(intent):
        return found
    return _send(intent, send) if should_resend(intent) else None


def keep(intent: StripeWrite, made: T, store: Store[T]) -> T:
    """Store what was made, together with the intent's end, and return it."""
    with transaction.atomic():
        # Its locks come before that of the intent.
        store(made)
        succeed(intent, made.id)
    return made


def resolve_pending(
    *,
    kind: StripeWrite.Kind,
    subject: str,
    wanted: bool,
    find: Find[T],
    store: Store[T],
) -> None:
    """Find out what came of a write that an earlier try did not see the end of.

    If nothing came of it yet and it is wanted it stays open, for `fulfil`. Raises
    WriteUnresolved if it is not wanted any more, but may still have its effect.
    """
    intent = StripeWrite.objects.of(kind, subject).pending().first()
    if intent is None:
        return
    if found := find(intent):
        keep(intent, found, store)
    elif not wanted or _is_settled(intent):
        abandon_if_safe(intent)


def create_write(
    *, kind: StripeWrite.Kind, subject: str, tenant_id: str, params: Params
) -> StripeWrite:
    """Record a write that is about to be sent, under the next generation of its key."""
    last = StripeWrite.objects.of(kind, subject).order_by("-generation").first()
    generation = last.generation + 1 if last else 1
    # The random part: another database may have used the same account before.
    key = f"caravel:{kind}:{subject}:{generation}:{secrets.token_hex(4)}"
    return StripeWrite.objects.create(
        tenant_id=tenant_id,
        kind=kind,
        subject=subject,
        generation=generation,
        idempotency_key=key,
        params=params(key),
    )


def is_pending(intent: StripeWrite) -> bool:
    """Return whether nobody has resolved the write since it was read."""
    return StripeWrite.objects.pending().filter(pk=intent.pk).exists()


def succeed(intent: StripeWrite, stripe_id: str) -> None:
    """Record that the write had its effect, and what it made."""
    _resolve(intent, State.SUCCEEDED, stripe_id=stripe_id)


def fail(intent: StripeWrite, error: Exception, *, stripe_id: str = "") -> None:
    """Record that the write was refused; `stripe_id` if it had its effect in part."""
    error_text = redact(str(error))[:2000]
    _resolve(intent, State.FAILED, last_error=error_text, stripe_id=stripe_id)


def abandon(intent: StripeWrite) -> None:
    """Record that the write is not pursued: it had no effect, or nobody wants it."""
    _resolve(intent, State.ABANDONED)


def _is_settled(intent: StripeWrite) -> bool:
    """Return whether the last try can have no effect any more."""
    tried = intent.tried_at
    return tried is not None and timezone.now() - tried >= LATE_EFFECT_WINDOW


def _send(intent: StripeWrite, send: Send[T]) -> T:
    tried_before = intent.tried_at
    _columns(intent, tried_at=timezone.now())
    try:
        return send(intent.params, intent.idempotency_key)
    except exceptions.StripeRateLimited:
        _columns(intent, tried_at=tried_before)
        raise
    except (exceptions.StripeUnavailable, exceptions.StripeReusedKey) as exc:
        since = intent.unknown_since or timezone.now()
        _columns(intent, unknown_since=since, last_error=redact(str(exc))[:2000])
        raise
    except exceptions.StripeRefused as exc:
        if tried_before is None:
            fail(intent, exc)
        else:
            # That says nothing of an earlier try, which was not answered.
            _columns(intent, unknown_since=intent.unknown_since or tried_before)
        raise


def should_resend(intent: StripeWrite) -> bool:
    """Return True while the write may be sent again, False once it was given up.

    Call it after `find` found nothing. Raises WriteUnresolved in between.
    """
    now = timezone.now()
    tried, unknown = intent.tried_at, intent.unknown_since or intent.tried_at
    if tried is None or unknown is None or now - unknown < RESEND_WINDOW:
        return True
    abandon_if_safe(intent)
    return False


def abandon_if_safe(intent: StripeWrite) -> None:
    """Close a write that nothing came of. Raises WriteUnresolved if it still may."""
    if intent.tried_at is not None and not _is_settled(intent):
        raise exceptions.WriteUnresolved(
            "Stripe did not answer; waiting to see whether the request had its effect."
        )
    abandon(intent)


def _resolve(intent: StripeWrite, state: StripeWrite.State, **columns: Any) -> None:
    _columns(intent, state=state, resolved_at=timezone.now(), **columns)


def _columns(intent: StripeWrite, **columns: Any) -> None:
    with transaction.atomic():
        StripeWrite.objects.filter(pk=intent.pk).update(**columns)
    for name, value in columns.items():
        setattr(intent, name, value)
