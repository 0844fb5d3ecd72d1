"""Longtake."""
