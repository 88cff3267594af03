"""Tests of what tasks, and their messages, have in common."""
