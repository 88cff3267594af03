import gzip
from datetime import timedelta

import factory
from django.utils import timezone

from relays.models import Plan, Relay, RelayExport, RelayExportPart
from tenants.tests.factories import TenantFactory


class RelayFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Relay

    tenant = factory.SubFactory(TenantFactory)
    subdomain = factory.Sequence(lambda n: f"relay-{n}")
    plan = factory.LazyFunction(lambda: Plan.objects.get(pk="basic"))


class RelayExportFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = RelayExport

    relay = factory.SubFactory(
        RelayFactory, first_served_at=factory.LazyFunction(timezone.now)
    )


class DoneExportFactory(RelayExportFactory):
    """Finished export of two parts, with two events."""

    class Meta:
        skip_postgeneration_save = True

    state = RelayExport.State.DONE
    events = 2
    finished_at = factory.LazyFunction(timezone.now)
    expires_at = factory.LazyFunction(lambda: timezone.now() + timedelta(days=30))

    @factory.post_generation
    def lines(self, create, extracted):
        """Store one part for each line."""
        for number, line in enumerate(extracted or (b'{"n":1}\n', b'{"n":2}\n')):
            data = gzip.compress(line, mtime=0)
            RelayExportPart.objects.create(export=self, number=number, data=data)
            self.size_bytes += len(data)
        self.save()
