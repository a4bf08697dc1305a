"""Experts and task vectors written as plain adapters that other tools load."""
