"""`gyre doctor`: what is wrong with an installation, by cause, and what to do about it."""
