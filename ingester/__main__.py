"""`python -m ingester`: the same as the command `ingester`. Nothing else."""

from ingester.cli import main

if __name__ == "__main__":
    main()
