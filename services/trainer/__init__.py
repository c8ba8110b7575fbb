"""Trainer: turns experts' labels into a dataset, a LoRA specialist, and a verdict on whether it is better."""
