"""Web site of the boards: contents of its pages (``model``), and their form (``pages``, ``templates``)."""
