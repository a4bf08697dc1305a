"""Loading of experts into models."""
