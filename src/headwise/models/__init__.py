"""What is read from a checkpoint beside its decoder: vision towers and text towers."""
