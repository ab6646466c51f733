"""A bank over HTTP: any number of processes, any number of clicks, and no money lost, doubled or overdrawn.

    pip install . starlette hypercorn                                    # in a clone of trioqueue
    cd examples
    python -m bank_service --port 8000                                   # one process, with its accounts in it
    python -m bank_service --port 8001 --url redis://localhost:6379      # as many as you like, on one Redis

    POST /accounts/ada/deposit   {"amount": 100}                         202: accepted, and handled soon
    POST /accounts/ada/withdraw  {"amount": 80}                          200 {"balance": 20}, or 409
    POST /transfers              {"from": "ada", "to": "bob", "amount": 5}
    GET  /accounts/ada                                                   200 {"balance": 15}

`commands.py` is the bank; the rest is HTTP: `body.py` reads requests, `teller.py` makes them commands, `problems.py`
makes errors responses, `deadline.py` ends what takes too long, `app.py` puts these together, `farewell.py` closes
with good manners, and `__main__.py` serves.
"""
