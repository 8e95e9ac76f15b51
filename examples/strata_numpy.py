"""Softmax regression on scikit-learn's handwritten digits, in NumPy."""

import numpy as np
from sklearn.datasets import load_digits
from strata_zmq import TrainingOrchestrator

images, labels = load_digits(return_X_y=True)
images = images / 16.0
train, test = 1500, slice(1500, None)
weights = np.zeros((64, 10))
worker = TrainingOrchestrator().track(weights=weights)
worker.register_dataset("digits", total_samples=train, shard_size=50)

for epoch in worker.epochs(5):
    for batch in worker.batches("digits", 50):
        x, y = images[batch], labels[batch]
        scores = np.exp(x @ weights)
        error = scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[y]
        weights -= 0.5 * x.T @ error / len(y)
    accuracy = (np.argmax(images[test] @ weights, axis=1) == labels[test]).mean()
    print(f"epoch {epoch}: accuracy {accuracy:.3f}")
    worker.save_checkpoint()
