from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from relays.models import Plan, Relay
from relays.services.provisioning.queue import mark_all_stale, mark_stale

#: Columns that zooid does not depend on.
_OBSERVED = {
    *("synced", "sync_error", "first_served_at", "served_at", "dark_at"),
    *("people", "people_counted_at", "over_limit_since"),
    *("delinquent_since", "export_offer_at", "deletion_at", "created_at"),
}
#: The columns of a plan that zooid depends on.
_FEATURES = {"blossom", "livekit"}


@receiver(post_save, sender=Relay, dispatch_uid="relays.relay_saved")
def mark_stale_on_relay_save(
    sender: type[Relay],
    instance: Relay,
    raw: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    if raw or (update_fields is not None and update_fields <= _OBSERVED):
        return
    mark_stale(relay_id=instance.pk)


@receiver(post_save, sender=Plan, dispatch_uid="relays.plan_saved")
def mark_stale_on_plan_save(
    sender: type[Plan],
    instance: Plan,
    raw: bool,
    created: bool,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    if raw or created or (update_fields is not None and not _FEATURES & update_fields):
        return
    mark_all_stale(instance.relays.existing().values_list("pk", flat=True))
