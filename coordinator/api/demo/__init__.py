"""A job that is not there: rows as cores would show them, made from a seed, under the API as it is."""
