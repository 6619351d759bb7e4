"""`python -m smoothdescent`: the same program as the `smoothdescent` command."""

from smoothdescent.cli import main

if __name__ == "__main__":
    main()
