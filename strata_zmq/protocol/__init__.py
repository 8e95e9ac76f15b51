"""Bytes to messages and back. PROTOCOL.md beside this file documents every frame for other languages."""
