"""Cores that are made of rows by hand, quiet ports, and the state app over them in one process or on a real socket."""

from sightkit.feeds import HandFeed
from sightkit.page import Viewer, sorted_rows
from sightkit.quiet import NoJobs, NoVault, Pages
from sightkit.rows import certificate, checkpoint, dataset, event, functions, job, lost, open_barrier, release, worker
from sightkit.served import Served, serve_app
from sightkit.stage import Stage

__all__ = [
    "HandFeed",
    "NoJobs",
    "NoVault",
    "Pages",
    "Served",
    "Stage",
    "Viewer",
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
    "sorted_rows",
    "worker",
]
