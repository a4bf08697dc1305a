"""Studies: reports of several models, tasks and readings, and one table for each question."""
