"""One module per surface of a collaboration: view, threat base, guess and scoring."""
