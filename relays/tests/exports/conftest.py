from relays.tests.provisioning.conftest import provisioning

__all__ = ["provisioning"]
