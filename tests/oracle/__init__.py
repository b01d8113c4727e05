"""Our reading of the corpora against what other readers make of them."""
