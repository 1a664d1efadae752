"""Use of a machine with an accelerator that is lent for minutes and has no network.

``python -m runners.device pack`` prepares here what travels; ``make device DEVICE=cuda MINUTES=8`` there runs tests,
timings and cells of the papers' sweeps until the time is over, and goes on where the last call stopped.
"""
