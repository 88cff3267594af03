"""Errors of relays, plans and zooid.

The docstrings are published as the meanings of the codes.
"""

from caravel.core.exceptions import (
    CaravelError,
    Conflict,
    Invalid,
    NotFound,
    Unavailable,
)
from caravel.core.web.throttling import Throttled


class UnknownPlan(Invalid):
    """There is no plan with this id."""

    code = "plan-unknown"


class PlanLacksFeature(Invalid):
    """The plan does not include a feature that is to be switched on."""

    code = "plan-lacks-feature"


class PriceMissing(Conflict):
    """The plan cannot be billed at present: support has to repair its price."""

    code = "plan-price-missing"


class UnknownRelay(NotFound):
    """The relay does not exist, or it does not belong to the caller."""

    code = "relay-not-found"


class PaymentRequired(Conflict):
    """The tenant `tenant_id` must pay an invoice first."""

    def __init__(self, message: str, *, tenant_id: str) -> None:
        super().__init__(message)
        self.tenant_id = tenant_id


class PaymentOverdue(PaymentRequired):
    """Purchases are blocked until the tenant pays the overdue invoices."""

    code = "payment-overdue"


class UnpaidRelayQuota(PaymentRequired):
    """The account has as many paid relays as it can until it has paid for a month."""

    code = "unpaid-relay-quota"


class FreeRelayQuota(Conflict):
    """The account has as many free relays as it can."""

    code = "free-relay-quota"


class NewRelayQuota(Throttled):
    """Too many relays were created and deleted within a day; see `Retry-After`."""

    code = "new-relay-quota"


class BillingOnHold(Conflict):
    """Purchases are blocked while billing is on hold: only support can change that."""

    code = "billing-on-hold"


class InvalidSubdomain(Invalid):
    """The subdomain is not a DNS label of letters, digits and hyphens."""

    code = "subdomain-invalid"


class ReservedSubdomain(Invalid):
    """The subdomain is reserved."""

    code = "subdomain-reserved"


class SubdomainTaken(Conflict):
    """The subdomain is used by another relay."""

    code = "subdomain-exists"


class RelayIsActive(Conflict):
    """The relay is already active."""

    code = "relay-is-active"


class RelayIsInactive(Conflict):
    """The relay is already inactive."""

    code = "relay-is-inactive"


class RelayIsDelinquent(PaymentRequired):
    """The relay is suspended until its tenant pays or moves it to a free plan."""

    code = "relay-is-delinquent"


class RelayIsFree(Conflict):
    """A relay on a free plan is never delinquent."""

    code = "relay-is-free"


class MembersExceedPlan(Conflict):
    """The relay has more people than the plan allows: `people` and `limit`."""

    code = "members-exceed-plan"

    def __init__(self, *, people: int, limit: int) -> None:
        super().__init__(
            f"The relay has {people} members, and this plan is for at most {limit}. "
            "Its owner, admins and moderators do not count."
        )
        self.people, self.limit = people, limit

    @property
    def details(self) -> dict[str, int]:
        return {"people": self.people, "limit": self.limit}


class MembersNotCounted(Unavailable):
    """The relay has changed while its members were counted: try again."""

    code = "members-not-counted"


class InvalidRole(Invalid):
    """The list of admins or moderators is too long, or contains an invalid key."""

    code = "role-invalid"


class FeatureUnavailable(Conflict):
    """The feature is not set up on this server: the operator has to configure it."""

    code = "feature-unavailable"


class ZooidUnavailable(CaravelError):
    """The server that hosts the relays is temporarily unavailable."""

    code = "zooid-unavailable"
    status = 503


class ZooidOutcomeUnknown(ZooidUnavailable):
    """The server that hosts the relays may have executed the request: it did not say.

    A request that never reached it raises ZooidUnavailable itself.
    """

    code = "zooid-outcome-unknown"


class RelayMisconfigured(CaravelError):
    """The relay's configuration would damage the server, and was not sent."""

    code = "relay-misconfigured"


class RelayUnproven(CaravelError):
    """The server has acknowledged the relay's configuration and does not show it."""

    code = "relay-unproven"
    status = 503


class RelayIsAnother(CaravelError):
    """The server has another relay under this relay's id or name."""

    code = "relay-is-another"
    status = 502


class RelayUnreachable(ZooidUnavailable):
    """The relay's answer proves neither that it runs nor that it is off."""

    code = "relay-unreachable"


class RelayExists(Conflict):
    """zooid already has a relay with this id."""

    code = "zooid-relay-exists"


class RelayMissing(CaravelError):
    """zooid has no relay with this id."""

    code = "zooid-relay-missing"


class HostTaken(Conflict):
    """zooid serves another relay under this host."""

    code = "zooid-host-taken"


class SchemaTaken(Conflict):
    """zooid has another relay with this schema."""

    code = "zooid-schema-taken"


class ZooidRefused(CaravelError):
    """The server that hosts the relays rejected our request or sent invalid data."""

    code = "zooid-refused"
    status = 502


class ExportLinkInvalid(NotFound):
    """The token of a link to an export is not valid."""

    code = "export-link-invalid"


class ExportLinkExpired(CaravelError):
    """The link to an export has expired."""

    code = "export-link-expired"
    status = 410


class UnknownExport(NotFound):
    """The relay has no such export."""

    code = "export-not-found"


class ExportNotReady(Conflict):
    """The export is not complete, has failed, or has expired."""

    code = "export-not-ready"


class ExportNotPossible(Conflict):
    """The relay has never run, so it has no events."""

    code = "export-not-possible"


class ExportQuota(Throttled):
    """The relay was exported too often within a day; see `Retry-After`."""

    code = "export-quota"


class ExportFailed(CaravelError):
    """The export was given up; the message says why."""

    code = "export-failed"


class ExportTooLarge(ExportFailed):
    """The relay's events are more than an export may contain."""

    code = "export-too-large"
