"""The rules, pure: no I/O, clock, randomness, environment or logging. What varies is an argument."""
