"""The state of a job over HTTP: what its cores show, folded, remembered and served."""
