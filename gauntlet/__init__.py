"""Gauntlet from Python: compose a cell, play it, run a sweep, read tables and boards.

>>> import gauntlet
>>> outcome = gauntlet.cell("threat=leakage_dlg", "defense=dp_sgd", dataset="digits", seed=1).play()
>>> outcome.risk["ssim"], outcome.figure()
"""

from gauntlet.cells import PlayableCell, Result, cell
from gauntlet.results import board, ranking, sweep, table

__all__ = ["PlayableCell", "Result", "board", "cell", "ranking", "sweep", "table"]
