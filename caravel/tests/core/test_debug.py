from django.conf import settings as all_settings
from django.views.debug import get_default_exception_reporter_filter


def test_page_about_exception_shows_no_secret(settings):
    settings.REDIS_URL = "redis://caravel:hunter2@valkey/0"
    settings.EMAIL_URL = "smtp+tls://me:hunter2@mail.example"
    settings.DATABASE_URL = "postgres://caravel:hunter2@db/caravel"
    settings.CELERY = {"broker_url": settings.REDIS_URL}

    shown = repr(get_default_exception_reporter_filter().get_safe_settings())

    assert "BILLING_EMAIL_DOMAIN" in shown
    assert "hunter2" not in shown
    for secret in (*all_settings.ROBOT_WALLETS, all_settings.ROBOT_SECRET):
        assert secret not in shown
