"""Architectures: called with ``shape=`` and ``num_classes=``, they take inputs in [0, 1] and give logits."""
