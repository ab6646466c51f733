# pyright: strict
from trioqueue import state


@state("account")
class Account:
    balance: int = 0


Account(balance="0")  # expect-error
