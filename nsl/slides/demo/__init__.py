"""The synthetic slide that the app offers, and tests use."""
