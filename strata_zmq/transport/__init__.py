"""The one place that makes sockets: limits, high-water marks, CURVE keys and addresses."""
