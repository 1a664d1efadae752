"""Architectures: called with ``shape=`` and ``num_classes=``, they map inputs in [0, 1] to logits."""
