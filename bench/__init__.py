"""`python -m strata_zmq.bench`: each figure beside its limit and its peers in the same run."""
