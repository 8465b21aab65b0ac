"""What runs in the peers' environment (``benchmarks.environment``) and prints lines of JSON."""
