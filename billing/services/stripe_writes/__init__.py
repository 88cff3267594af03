"""Writes to Stripe that must happen once, and what is known of their outcome.

Decides when a request is sent again, under which key, and when it is given up; not what
is written, which is the caller's `Write`.
"""
