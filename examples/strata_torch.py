"""Softmax regression on scikit-learn's handwritten digits, in PyTorch."""

import torch
from sklearn.datasets import load_digits
from strata_zmq import TrainingOrchestrator

images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16.0
train, test = 1500, slice(1500, None)
model = torch.nn.Linear(64, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
worker = TrainingOrchestrator().track(model=model, optimizer=optimizer)
worker.register_dataset("digits", total_samples=train, shard_size=50)

for epoch in worker.epochs(5):
    for batch in worker.batches("digits", 50):
        x, y = images[batch], labels[batch]
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = (model(images[test]).argmax(dim=1) == labels[test]).float().mean()
    print(f"epoch {epoch}: accuracy {accuracy:.3f}")
    worker.save_checkpoint()
