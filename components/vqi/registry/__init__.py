"""Bundles in a registry: how they are registered, brought from it, compared and promoted."""
