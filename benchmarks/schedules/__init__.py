"""What the trials do."""
