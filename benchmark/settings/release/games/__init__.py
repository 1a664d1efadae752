"""The games that an adversary of a release may play: what it sees, and how its guess is held against the truth."""
