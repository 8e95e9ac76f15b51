"""Real processes of one job, for the tests of several rooms: how they are started, spoken to and ended."""
