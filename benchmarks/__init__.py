"""Speed of pyquant beside the machine's limits and its peers; ``python -m benchmarks`` runs it."""
