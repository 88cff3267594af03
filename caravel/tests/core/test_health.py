import pytest

pytestmark = pytest.mark.django_db


def test_healthz_answers_without_any_server(client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    assert client.get("/healthz").json() == {"data": "alive", "code": "ok"}


def test_a_prober_may_call_us_by_any_name_and_without_https(client, settings):
    settings.SECURE_SSL_REDIRECT = True

    for path in ("/healthz", "/readyz"):
        assert client.get(path, headers={"Host": "10.0.0.7"}).status_code == 200
    assert client.post("/healthz").status_code == 405


def test_readyz_answers_when_database_and_broker_do(client):
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["data"] == ["broker", "database"]


def test_readyz_names_the_server_that_is_away(client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json() == {"error": "No answer from: broker.", "code": "not-ready"}
