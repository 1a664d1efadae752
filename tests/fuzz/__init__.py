"""Properties over made-up input, by Hypothesis: `pytest tests/fuzz` is short, `pytest -m fuzz` is long."""
