"""Other methods, to hold NSL against on the same folds."""
