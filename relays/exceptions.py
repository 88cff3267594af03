"""What goes wrong with relays, each with its code."""

from caravel.core.exceptions import CaravelError, Conflict, Invalid, NotFound


class UnknownPlan(Invalid):
    """There is no plan of this id."""

    code = "plan-unknown"


class PlanLacksFeature(Invalid):
    """The plan does not carry what is to be switched on."""

    code = "plan-lacks-feature"


class UnknownRelay(NotFound):
    """There is no such relay, or it is not the caller's."""

    code = "relay-not-found"


class UnknownTenant(NotFound):
    """There is no such tenant, or it is not the caller."""

    code = "tenant-not-found"


class TenantClosed(Conflict):
    """The account is closed."""

    code = "tenant-closed"


class PaymentRequired(Conflict):
    """Something must be paid before this; `tenant_id` owes it."""

    def __init__(self, message: str, *, tenant_id: str) -> None:
        super().__init__(message)
        self.tenant_id = tenant_id


class PaymentOverdue(PaymentRequired):
    """Nothing more is sold to this tenant until it has paid what is open."""

    code = "payment-overdue"


class InvalidSubdomain(Invalid):
    """The subdomain is not a label of letters, digits and hyphens."""

    code = "subdomain-invalid"


class ReservedSubdomain(Invalid):
    """The subdomain is kept for other services."""

    code = "subdomain-reserved"


class SubdomainTaken(Conflict):
    """The subdomain is another relay's."""

    code = "subdomain-exists"


class RelayIsActive(Conflict):
    """The relay is on already."""

    code = "relay-is-active"


class RelayIsInactive(Conflict):
    """The relay is off already."""

    code = "relay-is-inactive"


class RelayIsDelinquent(PaymentRequired):
    """Billing switched it off: only payment, or the free plan, switches it on."""

    code = "relay-is-delinquent"


class RelayIsFree(Conflict):
    """A relay on a free plan owes nothing and is never delinquent."""

    code = "relay-is-free"


class ZooidUnavailable(CaravelError):
    """The server that hosts the relays does not answer, or is in trouble."""

    code = "zooid-unavailable"
    status = 503


class ZooidRefused(CaravelError):
    """The server that hosts the relays refuses us, or its answer makes no sense."""

    code = "zooid-refused"
    status = 502
