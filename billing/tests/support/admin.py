"""Use the admin site as a member of staff does."""

from typing import Any

from django.db.models import Model
from django.test import Client
from django.urls import reverse


def message_texts(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def admin_url(model: type[Model], name: str, *args: Any) -> str:
    """Return the URL of a model's page: changelist, add or change."""
    info = model._meta.app_label, model._meta.model_name
    return reverse("admin:{}_{}_{}".format(*info, name), args=args)


def run_action(client: Client, model: type[Model], action: str, *rows: Model) -> Any:
    """Run an admin action on rows, and return the page that follows."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(admin_url(model, "changelist"), data, follow=True)
