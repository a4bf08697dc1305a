"""The adapters of other libraries: their folders, names, dtypes and scalings."""
