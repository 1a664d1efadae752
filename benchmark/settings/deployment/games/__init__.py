"""One module per surface of a deployment: view, threat base, guess and scoring."""
