"""What does a release give away as a whole?"""
