"""What a released data set, or the outputs of a model, give away about the samples behind them."""
