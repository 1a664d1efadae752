"""The collaboration setting: parties train a model together."""
