"""Runs in containers: the Docker client, and runs reproduced from their image."""
