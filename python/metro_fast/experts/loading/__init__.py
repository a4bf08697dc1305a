"""Experts into models."""
