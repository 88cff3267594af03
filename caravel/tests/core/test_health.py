import pytest

pytestmark = pytest.mark.django_db


def test_healthz_returns_200_without_redis(client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    assert client.get("/healthz").json() == {"data": "alive", "code": "ok"}


def test_probes_accept_any_host_without_https(client, settings):
    settings.SECURE_SSL_REDIRECT = True

    for path in ("/healthz", "/readyz"):
        assert client.get(path, headers={"Host": "10.0.0.7"}).status_code == 200
    assert client.post("/healthz").status_code == 405


def test_readyz_returns_200_when_all_probes_succeed(client):
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json()["data"] == ["Stripe account", "broker", "database"]


def test_readyz_returns_503_and_name_of_unavailable_server(client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {"error": "Not ready: broker.", "code": "not-ready"}
