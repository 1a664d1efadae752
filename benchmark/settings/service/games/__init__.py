"""One module per surface of a service: view, threat base, guess and scoring."""
