"""What is asked of headwise: for now the registry by which methods, models and benchmarks are found."""
