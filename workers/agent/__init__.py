"""A host's agent: it speaks upward once for the local workers, and supervises them."""
