"""Cores that are made of rows by hand, quiet ports, and the state app over them in one process or on a real socket."""

from sightkit.feeds import HandFeed
from sightkit.quiet import NoJobs, NoVault, Pages
from sightkit.rows import certificate, checkpoint, dataset, event, functions, job, lost, open_barrier, release, worker
from sightkit.served import Served, serve_app

__all__ = [
    "HandFeed",
    "NoJobs",
    "NoVault",
    "Pages",
    "Served",
    "certificate",
    "checkpoint",
    "dataset",
    "event",
    "functions",
    "job",
    "lost",
    "open_barrier",
    "release",
    "serve_app",
    "worker",
]
