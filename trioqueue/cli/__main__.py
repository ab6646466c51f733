"""`python -m trioqueue.cli`."""

from trioqueue.cli import main

if __name__ == "__main__":
    main()
