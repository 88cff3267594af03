"""Migrations that change more than the schema."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from billing.models import StripeWrite

pytestmark = pytest.mark.django_db

RENAME = import_module("billing.migrations.0005_rename_to_field_terms")


def test_staff_keep_their_permission_on_a_renamed_model():
    model = ContentType.objects.get_for_model(StripeWrite)
    Permission.objects.filter(content_type=model).delete()
    old = Permission.objects.create(
        content_type=model, codename="view_stripeintent", name="Can view stripe intent"
    )
    support = Group.objects.create(name="support")
    support.permissions.add(old)
    rename = RENAME.rename_permissions("stripeintent", "stripewrite")

    rename(apps, SimpleNamespace(connection=connection))

    kept = support.permissions.get()
    assert kept.codename == "view_stripewrite"
    assert kept.name == "Can view stripe write"
