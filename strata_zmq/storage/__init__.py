"""Bytes at rest: one port, its backends, and nothing about what the bytes mean."""
