"""Code that runs: the seven services and the runtime they share."""
