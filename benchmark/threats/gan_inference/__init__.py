"""What a participant of a collaboration draws out of the global models about classes that only others hold."""
