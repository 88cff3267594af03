"""Logins to the admin, and what staff without all permissions can do there."""

import secrets
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from structlog.testing import capture_logs

from caravel.core.web import throttling

pytestmark = pytest.mark.django_db
PASSWORD = secrets.token_hex(16)


@pytest.fixture(autouse=True)
def _own_addresses(settings) -> None:
    """One proxy, so that a test can call from any address."""
    settings.TRUSTED_PROXIES = 1


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Names whose passwords were hashed."""
    names: list[str] = []
    original = ModelBackend.authenticate

    def authenticate(
        self: ModelBackend, request: Any, username: str, **kwargs: Any
    ) -> Any:
        names.append(username)
        return original(self, request, username=username, **kwargs)

    monkeypatch.setattr(ModelBackend, "authenticate", authenticate)
    return names


def staff(*permissions: str) -> User:
    name = f"staff-{secrets.token_hex(4)}"
    user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def new_address() -> str:
    return f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"


def log_in(name: str, password: str = "wrong", address: str = "") -> Any:
    form = {"username": name, "password": password}
    headers = {"X-Forwarded-For": address or new_address()}
    return Client().post(reverse("admin:login"), form, headers=headers)


def test_attempts_from_one_address_are_refused_before_the_password_is_hashed(
    hashed, settings
):
    settings.LOGIN_RATE_PER_ADDRESS = "5/hour"
    address = new_address()

    pages = [log_in(secrets.token_hex(4), address=address) for _ in range(20)]

    assert len(hashed) == 5
    assert "Too many requests" in pages[-1].content.decode()
    user = staff()
    assert log_in(user.username, PASSWORD).status_code == 302


def test_attempts_for_one_name_are_refused_before_the_password_is_hashed(
    hashed, settings
):
    settings.LOGIN_RATE_PER_NAME = "5/hour"
    user, other = staff(), staff()

    for _ in range(20):
        log_in(user.username)

    assert hashed == [user.username] * 5
    assert log_in(other.username, PASSWORD).status_code == 302


def test_logins_take_only_some_of_the_threads_of_a_process(hashed, settings):
    settings.SLOW_REQUESTS = 2

    with throttling.concurrency_limit("admin login"):
        page = log_in(staff().username, PASSWORD)

    assert "The service is busy" in page.content.decode()
    assert hashed == []


def test_failed_login_is_logged_with_its_address(settings):
    user = staff()

    with capture_logs() as logs:
        log_in(user.username, address="203.0.113.7")

    (failure,) = [entry for entry in logs if entry["event"] == "admin_login_failed"]
    assert (failure["user"], failure["address"]) == (user.username, "203.0.113.7")
    assert failure["log_level"] == "warning"


def test_password_in_the_field_of_the_name_is_not_logged():
    with capture_logs() as logs:
        log_in(PASSWORD)

    assert [entry["event"] for entry in logs].count("admin_login_failed") == 1
    assert PASSWORD not in str(logs)


def test_refused_attempts_and_logins_are_logged(settings):
    settings.LOGIN_RATE_PER_NAME = "1/hour"
    user = staff()

    with capture_logs() as logs:
        log_in(user.username, PASSWORD, address="203.0.113.7")
        log_in(user.username, PASSWORD, address="203.0.113.8")

    login = {"event": "admin_login", "user": user.username, "address": "203.0.113.7"}
    refusal = {"event": "admin_login_refused", "address": "203.0.113.8"}
    assert any(login.items() <= entry.items() for entry in logs)
    assert any(refusal.items() <= entry.items() for entry in logs)


def test_session_ends_after_a_working_day():
    client, user = Client(), staff()
    form = {"username": user.username, "password": PASSWORD}
    headers = {"X-Forwarded-For": new_address()}

    response = client.post(reverse("admin:login"), form, headers=headers)

    # Without an age the browser forgets it when it is closed.
    assert response.cookies["sessionid"]["max-age"] == ""
    left = client.session.get_expiry_date() - timezone.now()
    assert left.total_seconds() <= 8 * 3600


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/admin/auth/user/"])
def test_pages_allow_no_scripts_of_other_sites(admin_client, path):
    policy = admin_client.get(path)["Content-Security-Policy"]

    directives = dict(part.split(maxsplit=1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    for name in ("script-src", "connect-src", "form-action", "font-src"):
        assert set(directives[name].split()) <= {"'self'", "'unsafe-eval'"}, name


# --- what a member of staff can become


ACCOUNTS = [
    f"{verb}_{model}"
    for verb in ("add", "change", "delete", "view")
    for model in ("user", "group")
]


def test_staff_who_may_change_users_cannot_make_themselves_superuser(client):
    user = staff(*ACCOUNTS)
    client.force_login(user)
    url = reverse("admin:auth_user_change", args=[user.pk])

    form = {"username": user.username, "is_staff": "on", "is_superuser": "on"}
    times = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    response = client.post(url, {**form, **times, "is_active": "on"})

    user.refresh_from_db()
    assert response.status_code == 403
    assert not user.is_superuser
    assert client.get(url).status_code == 200


def test_staff_who_may_change_users_cannot_take_over_a_superuser(client, admin_user):
    client.force_login(staff(*ACCOUNTS))
    before = admin_user.password
    url = reverse("admin:auth_user_password_change", args=[admin_user.pk])

    response = client.post(url, {"password1": PASSWORD, "password2": PASSWORD})

    admin_user.refresh_from_db()
    assert (response.status_code, admin_user.password) == (403, before)


def test_staff_who_may_change_groups_cannot_extend_their_own(client):
    user, group = staff(*ACCOUNTS), Group.objects.create(name="support")
    user.groups.add(group)
    client.force_login(user)
    every = list(Permission.objects.values_list("pk", flat=True))

    url = reverse("admin:auth_group_change", args=[group.pk])
    response = client.post(url, {"name": "support", "permissions": every})

    assert (response.status_code, group.permissions.count()) == (403, 0)


def test_staff_who_may_add_users_cannot_add_any(client):
    client.force_login(staff(*ACCOUNTS))
    count = User.objects.count()

    form = {"username": "second", "password1": PASSWORD, "password2": PASSWORD}
    response = client.post(reverse("admin:auth_user_add"), form)

    assert (response.status_code, User.objects.count()) == (403, count)


def test_superuser_adds_and_changes_users(admin_client):
    form = {"username": "second", "password1": PASSWORD, "password2": PASSWORD}
    admin_client.post(
        reverse("admin:auth_user_add"), {**form, "usable_password": "true"}
    )

    second = User.objects.get(username="second")
    url = reverse("admin:auth_user_change", args=[second.pk])
    times = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    admin_client.post(url, {"username": "second", "is_staff": "on", **times})
    second.refresh_from_db()
    assert second.is_staff
