"""The HTTP interface: one FastAPI app, a process of its own, that speaks to a dispatcher as any client does."""
