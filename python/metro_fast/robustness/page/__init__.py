"""The offline page of one or several reports."""
