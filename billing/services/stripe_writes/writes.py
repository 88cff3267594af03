"""Writes to Stripe that must happen once: recorded, then sent, then resolved.

Stripe replays the first answer to an idempotency key, errors included, once execution
began (https://docs.stripe.com/api/idempotent_requests). So a retry repeats key and
parameters; a new key is used only after a definite answer, or when ten minutes have
passed since the last try and Stripe's lists show that it created nothing.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from enum import Enum, auto
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from django.db import transaction
from django.utils import timezone

from billing import exceptions
from billing.clients.stripe import errors
from billing.models import StripeWrite
from caravel.core.redaction import redact_start

#: How long an unanswered request is sent again under its key.
RESEND_WINDOW = timedelta(minutes=2)
#: How long after the last try a request may still take effect.
LATE_EFFECT_WINDOW = timedelta(minutes=10)

State = StripeWrite.State
#: Makes the parameters of a new write from its idempotency key.
Params = Callable[[str], dict[str, Any]]


class HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


class Decision(Enum):
    """Next step for a pending write that left no trace at Stripe."""

    RESEND = auto()
    ABANDON = auto()


class Write(ABC, Generic[T]):
    """One kind of write that creates an object at Stripe.

    `subject` is what the object is created for; at most one write of a kind and subject
    is pending. After a crash another process resumes it, so `send` and `find` rely on
    the stored parameters.
    """

    kind: ClassVar[StripeWrite.Kind]

    def __init__(self, *, subject: str, tenant_id: str) -> None:
        self.subject = subject
        self.tenant_id = tenant_id

    @abstractmethod
    def params(self, key: str) -> dict[str, Any]:
        """Return the parameters of a new write; every retry sends the same."""

    @abstractmethod
    def send(self, params: dict[str, Any], key: str) -> T:
        """Make the request."""

    @abstractmethod
    def find(self, write: StripeWrite) -> T | None:
        """Return the object that an earlier try created, if there is one."""

    @abstractmethod
    def save(self, resource: T) -> None:
        """Store the object's id, in the transaction that resolves the write."""

    def check_allowed(self) -> None:
        """Raise if no new write may be recorded; runs in the recording transaction."""

    def run(self) -> T:
        """Create the object, or complete the write that an earlier try left pending.

        A pending write keeps its parameters, so the caller may have to update the
        object afterwards. Raises WriteUnresolved while the outcome of an earlier try
        is unknown, else any error of `send`, `find` and `check_allowed`.
        """
        write = self.pending()
        resource = self.resume(write) if write else None
        if write is None or resource is None:
            with transaction.atomic():
                self.check_allowed()
                write = self.record()
            resource = self._send(write)
        return self.complete(write, resource)

    def pending(self) -> StripeWrite | None:
        """Return the write that an earlier try left pending, if any."""
        return StripeWrite.objects.of(self.kind, self.subject).pending().first()

    def record(self) -> StripeWrite:
        """Record a write that is about to be sent."""
        return create_write(
            kind=self.kind,
            subject=self.subject,
            tenant_id=self.tenant_id,
            params=self.params,
        )

    def resume(self, write: StripeWrite) -> T | None:
        """Return the object of a pending write, which is sent (again) if needed.

        Returns None if the write had to be abandoned without effect. Raises
        WriteUnresolved while the outcome is unknown, else any error of `send` and
        `find`.
        """
        if existing := self.find(write):
            return existing
        if _decide(write) == Decision.ABANDON:
            mark_abandoned(write)
            return None
        return self._send(write)

    def complete(self, write: StripeWrite, resource: T) -> T:
        """Save the object and resolve the write in one transaction."""
        with transaction.atomic():
            # Lock order: the rows that `save` locks, then the write.
            self.save(resource)
            mark_succeeded(write, resource.id)
        return resource

    def resolve_pending(self, *, wanted: bool) -> T | None:
        """Look up the outcome of a pending write; returns the object if it exists.

        If there is none, a write that is still wanted is left to `run` while it may
        take effect, and abandoned afterwards. Raises WriteUnresolved if it is no
        longer wanted, but may still take effect.
        """
        write = self.pending()
        if write is None:
            return None
        if existing := self.find(write):
            return self.complete(write, existing)
        waits_for_run = write.tried_at is None or _may_still_take_effect(write)
        if not (wanted and waits_for_run):
            abandon_if_safe(write)
        return None

    def _send(self, write: StripeWrite) -> T:
        tried_before = write.tried_at
        # Before the request: if the worker is killed during it, the outcome is unknown.
        _update(write, tried_at=timezone.now())
        try:
            return self.send(write.params, write.idempotency_key)
        except errors.StripeNotExecuted:
            # Not sent, or rejected before execution: this try cannot take effect later.
            _update(write, tried_at=tried_before)
            raise
        except (errors.StripeUnavailable, errors.StripeReusedKey) as exc:
            since = write.unknown_since or timezone.now()
            _update(
                write, unknown_since=since, last_error=redact_start(str(exc), 2_000)
            )
            raise
        except errors.StripeRefused as exc:
            if tried_before is None:
                mark_failed(write, exc)
            else:
                # The refusal says nothing about an earlier, unanswered try.
                _update(write, unknown_since=write.unknown_since or tried_before)
            raise


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


def is_pending(write: StripeWrite) -> bool:
    """Return whether the write is still pending in the database."""
    return StripeWrite.objects.pending().filter(pk=write.pk).exists()


def mark_succeeded(write: StripeWrite, stripe_id: str) -> None:
    """Resolve a write that took effect; `stripe_id` is its object's."""
    _resolve(write, State.SUCCEEDED, stripe_id=stripe_id)


def mark_failed(write: StripeWrite, error: Exception, *, stripe_id: str = "") -> None:
    """Resolve a write that was refused; `stripe_id` if it took effect in part."""
    error_text = redact_start(str(error), 2_000)
    _resolve(write, State.FAILED, last_error=error_text, stripe_id=stripe_id)


def mark_abandoned(write: StripeWrite) -> None:
    """Resolve a write that had no effect, or is no longer wanted."""
    _resolve(write, State.ABANDONED)


def abandon_if_safe(write: StripeWrite) -> None:
    """Abandon a write without effect. Raises WriteUnresolved if it may have one yet."""
    _require_no_late_effect(write)
    mark_abandoned(write)


def _decide(write: StripeWrite) -> Decision:
    """Return the next step for a write that `find` found no object for.

    Raises WriteUnresolved when it is too late to send it again, and too early to
    abandon it.
    """
    tried, unknown_since = write.tried_at, write.unknown_since or write.tried_at
    if tried is None or unknown_since is None:
        return Decision.RESEND
    if timezone.now() - unknown_since < RESEND_WINDOW:
        return Decision.RESEND
    _require_no_late_effect(write)
    return Decision.ABANDON


def _require_no_late_effect(write: StripeWrite) -> None:
    if _may_still_take_effect(write):
        raise exceptions.WriteUnresolved(
            "Stripe did not answer; waiting to see whether the request had its effect."
        )


def _may_still_take_effect(write: StripeWrite) -> bool:
    tried = write.tried_at
    return tried is not None and timezone.now() - tried < LATE_EFFECT_WINDOW


def _resolve(write: StripeWrite, state: StripeWrite.State, **columns: Any) -> None:
    _update(write, state=state, resolved_at=timezone.now(), **columns)


def _update(write: StripeWrite, **columns: Any) -> None:
    with transaction.atomic():
        StripeWrite.objects.filter(pk=write.pk).update(**columns)
    for name, value in columns.items():
        setattr(write, name, value)
