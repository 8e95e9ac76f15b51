"""The other end of a measurement: bare servers that are the limits, batch sources, and the load that is offered."""
