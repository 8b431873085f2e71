"""Adapters: one file or folder for each third party. Each imports the core and that third party, and holds no rules."""
