# Benchmarks answer a named question and are never tests: list their files here, run them by hand.
