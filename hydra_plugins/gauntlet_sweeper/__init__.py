"""Hydra finds sweepers only in the namespace package ``hydra_plugins``; the work is done in ``runners.sweep.sweep``."""
