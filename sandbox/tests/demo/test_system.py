"""Each data directory of `make run` has a Stripe account of its own."""

from sandbox.demo.system import PORTS, System


def system_of(tmp_path, key: str) -> System:
    return System(tmp_path, {"STRIPE_SECRET_KEY": key}, PORTS)


def test_account_differs_from_that_of_another_data_directory(tmp_path):
    first = system_of(tmp_path / "a", "sk_test_sandboxa")
    second = system_of(tmp_path / "b", "sk_test_sandboxb")

    assert first.stripe_account != second.stripe_account
    assert (
        first.stripe_account == system_of(tmp_path, "sk_test_sandboxa").stripe_account
    )
