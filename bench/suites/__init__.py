"""One file per suite; a file in this folder that defines `SUITE` is a suite."""
