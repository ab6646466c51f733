"""The store in this process: the readable reference of the protocol, and the embedded default.

`server.py` holds the data and has one plain method for each script of the protocol; `store.py` is a client's way
into it.  Nothing outlives the process.
"""
