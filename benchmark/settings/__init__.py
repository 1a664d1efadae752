"""Settings: where learning happens, and so what an adversary can see or touch."""
