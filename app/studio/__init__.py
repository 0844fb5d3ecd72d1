"""The studio: a page to steer live takes, and the server behind it."""
