"""S3 for tests: real servers from PyPI as child processes, and a small one in this process that fails on command."""
