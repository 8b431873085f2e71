"""Adapters with one fault each: what their authors might well have written."""
