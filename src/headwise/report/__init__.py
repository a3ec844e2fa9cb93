"""What is known of a comparison, for people: findings, tables of statistics, evidence, and one HTML page."""
