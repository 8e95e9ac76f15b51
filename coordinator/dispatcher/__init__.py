"""The dispatcher's process: sockets, record stores and the loop around the core of `strata_zmq.functions.dispatch`."""
