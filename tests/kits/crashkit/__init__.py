"""Power cuts on paper: what a program did to a disk, written down, and each state in which the disk could be found."""
