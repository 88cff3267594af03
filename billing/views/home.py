"""`/`: what this service is, its plans, and how to begin."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import pluralize
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from billing.money import format_amount
from caravel.nostr import npub, pubkey_of
from relays.models import Plan

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none';"
    " frame-ancestors 'none'; base-uri 'none'"
)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Render the page from the plans that can be sold now."""
    plans = [
        {"plan": plan, "price": _price(plan), "contents": _contents(plan)}
        for plan in Plan.objects.all()
        if plan.is_sellable
    ]
    context = {
        "plans": plans,
        "brand": settings.ROBOT_NAME,
        "description": settings.ROBOT_DESCRIPTION,
        "relay_scheme": "wss" if settings.APP_URL.startswith("https:") else "ws",
        "relay_domain": settings.RELAY_DOMAIN,
        "grace_days": settings.BILLING_GRACE_DAYS,
        "robot": npub(pubkey_of(settings.ROBOT_SECRET)),
    }
    response = render(request, "billing/home.html", context)
    response["Content-Security-Policy"] = _POLICY
    patch_cache_control(response, public=True, max_age=60)
    return response


def _price(plan: Plan) -> str:
    if not plan.is_paid:
        return "free"
    return f"{format_amount(plan.amount_cents, plan.currency)} a month"


def _contents(plan: Plan) -> str:
    members = "any number of members"
    if plan.members is not None:
        members = f"up to {plan.members:,} member{pluralize(plan.members)}"
    extras = {"Blossom for files": plan.blossom, "LiveKit for calls": plan.livekit}
    return ", ".join([members, *(name for name, has in extras.items() if has)])
