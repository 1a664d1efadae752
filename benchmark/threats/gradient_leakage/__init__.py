"""What gradients and model updates give away about the samples behind them."""
