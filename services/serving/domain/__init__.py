"""What is live and what it is worth, as pure decisions."""
