"""`strata run`: a whole job on one machine, as child processes of one supervisor that leaves nothing behind."""
