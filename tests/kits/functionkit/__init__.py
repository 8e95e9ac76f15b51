"""Real dispatchers, workers and badly behaved functions, for the tests of several rooms."""
