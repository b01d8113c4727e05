"""The benchmark: a seeded corpus, a load driver, and what the daemon does with them: `python -m tests.bench -h`."""
