"""Remote execution: the executor, what packs calls, and the dispatcher's core that local and remote execution share."""
