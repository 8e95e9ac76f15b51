"""The HTTP process: one FastAPI app over the bus, with a router for each plane."""
