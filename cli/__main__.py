"""`python -m flowkit_cli`: the same as `flowkit`."""

from flowkit_cli import main

if __name__ == "__main__":
    main()
