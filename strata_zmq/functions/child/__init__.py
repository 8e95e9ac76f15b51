"""The child process: the one place, beside the client's codec, where calls and results are loaded and packed."""
