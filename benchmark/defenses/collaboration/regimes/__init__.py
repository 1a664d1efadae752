"""Defenses that replace or extend the protocol of a round."""
