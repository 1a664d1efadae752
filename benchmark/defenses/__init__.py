"""Defenses: one per file. A defense overrides the hooks that it changes; ``base.py`` says what they are."""
