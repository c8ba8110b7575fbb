"""What is worth an expert's time, what an expert may say of it, and who holds which item: pure and synchronous."""
