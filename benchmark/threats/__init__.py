"""Threats: a folder per family, an adversary per file. ``base.py`` says what a threat is and what it may see."""
