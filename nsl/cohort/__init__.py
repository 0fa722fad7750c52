"""Many slides predicted alike: a list, one task a slide, what became of each, and tables over all of them."""
