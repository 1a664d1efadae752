"""Configuration: composition, construction, identity and compatibility of cells."""
