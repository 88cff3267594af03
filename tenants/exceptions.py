from caravel.exceptions import CaravelError


class NotDelivered(CaravelError):
    """A message to a tenant reached nobody; it is to be sent again later."""

    code = "notice-not-delivered"
    status = 503


class AddressRefused(CaravelError):
    """The mail server will never take an e-mail to this address."""

    code = "email-address-refused"
    status = 422


class IdentityNotPublished(CaravelError):
    """No relay took some of what we publish of ourselves."""

    code = "identity-not-published"
    status = 503
