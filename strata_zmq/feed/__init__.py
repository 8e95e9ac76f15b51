"""Batches through shared memory: a ring between a loader process and the training process, and on to the GPU."""
