"""The address in the log of a request."""

import pytest

#: Headers in which django-ipware looks for an address.
FORGED = {
    "X-Forwarded-For": "198.51.100.1",
    "X-Real-Ip": "198.51.100.2",
    "Client-Ip": "198.51.100.3",
    "X-Client-Ip": "198.51.100.4",
    "Forwarded": "198.51.100.5",
    "Forwarded-For": "198.51.100.6",
    "Cf-Connecting-Ip": "198.51.100.7",
    "True-Client-Ip": "198.51.100.8",
}


def logged_address(client, caplog, **headers):
    client.get("/favicon.ico", headers=headers)
    (line,) = [
        record.msg for record in caplog.records if "request_finished" in str(record.msg)
    ]
    return line["ip"]


@pytest.mark.parametrize("name", FORGED)
def test_caller_cannot_choose_the_logged_address(client, caplog, settings, name):
    settings.TRUSTED_PROXIES = 0

    address = logged_address(client, caplog, **{name: FORGED[name]})

    assert address == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("</script>", "unknown"),
    ],
)
def test_logged_address_is_the_one_that_the_trusted_proxy_saw(
    client, caplog, settings, forwarded, address
):
    settings.TRUSTED_PROXIES = 1
    headers = {"X-Forwarded-For": forwarded, "X-Real-Ip": "198.51.100.2"}

    assert logged_address(client, caplog, **headers) == address
