"""Training state to chunks to a committed manifest, and back, bit-exact."""
