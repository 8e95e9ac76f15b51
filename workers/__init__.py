"""The worker processes and what training code inherits from."""
