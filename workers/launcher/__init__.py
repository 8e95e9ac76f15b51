"""`strata run` and `strata agent`: child processes of one supervisor, which leaves nothing behind."""
