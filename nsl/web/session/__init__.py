"""What a session holds and a server shares: visitors' files, slides, long work, limits. Nothing here is drawn."""
