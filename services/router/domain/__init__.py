"""What the router decides, without a clock, a network or a framework."""
