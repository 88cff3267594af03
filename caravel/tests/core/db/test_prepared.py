"""Queries whose SQL is built once."""

from datetime import timedelta

import pytest
from django.utils import timezone

from caravel.core.db.prepared import PreparedQuery
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def test_query_is_run_with_the_present_time_each_time():
    query = PreparedQuery(
        lambda id, now: Tenant.objects.filter(
            pk=id, created_at__lte=now - timedelta(minutes=1)
        ).values_list("pk")
    )
    tenant = TenantFactory()

    found = [
        query.fetch(tenant.pk, tenant.created_at + timedelta(seconds=seconds))
        for seconds in (59, 61)
    ]

    assert found == [[], [(tenant.pk,)]]


def test_query_with_a_time_of_its_own_is_refused():
    query = PreparedQuery(
        lambda id, now: Tenant.objects.filter(
            pk=id, created_at__lte=timezone.now()
        ).values_list("pk")
    )

    with pytest.raises(ValueError, match="`now`"):
        query.fetch("", timezone.now())
