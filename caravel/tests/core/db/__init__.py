"""Tests of the database building blocks."""
