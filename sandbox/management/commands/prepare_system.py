import os
from io import StringIO
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = (
        "Migrate, create the prices in Stripe, and an admin user if "
        "DJANGO_SUPERUSER_PASSWORD is set."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        call_command("stripe_setup", verbosity=0, stdout=StringIO())
        password = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
        if password:
            admin, _ = User.objects.get_or_create(
                username="admin", defaults={"is_staff": True, "is_superuser": True}
            )
            admin.set_password(password)
            admin.save()
