"""The other systems: each file runs in the peers' interpreter, started by `serve.py`, and imports nothing of ours."""
