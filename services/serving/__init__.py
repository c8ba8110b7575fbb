"""What is live: takes candidates live, keeps Triton at the desired state, rolls back, exports."""
