"""Deliveries of events to webhook endpoints."""
