"""Headers of pages whose URL is the credential."""

from django.http.response import HttpResponseBase


def set_private_headers(response: HttpResponseBase, *, form_targets: str = "") -> None:
    """Keep the page, and its URL, out of caches, search engines and other sites.

    Forms may lead to our own pages and to `form_targets`.
    """
    response["Cache-Control"] = "no-store, private"
    # Not `no-referrer`: browsers then send forms with the origin "null", and Django's
    # CSRF check refuses it.
    response["Referrer-Policy"] = "same-origin"
    response["X-Robots-Tag"] = "noindex, nofollow"
    # Chromium applies form-action to the redirect that answers a form, too.
    targets = f"'self' {form_targets}".strip()
    response["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        f" img-src 'self'; form-action {targets};"
        " frame-ancestors 'none'; base-uri 'none'"
    )
