"""One file per framework that Strata serves from its inside, each imported only when asked for."""
