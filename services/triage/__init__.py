"""Decides what is worth an expert's time, and asks the experts."""
