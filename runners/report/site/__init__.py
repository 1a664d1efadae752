"""The leaderboard as a static web site: what its pages show (``model``), and how (``pages``, ``templates``)."""
