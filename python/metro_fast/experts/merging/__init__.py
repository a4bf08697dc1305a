"""Several experts into one, and how alike they are."""
