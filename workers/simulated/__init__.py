"""Simulated workers: real connections and the real rules of a worker, without a model behind them."""
