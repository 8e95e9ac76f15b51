"""The parent's side of child processes that run functions: one pool for the executor, the worker and local mode."""
