"""The studio: a page to steer a film while it is being shot."""
