"""What faults with real processes are made of: a wire that misbehaves, hosts on one machine, and one checker."""
