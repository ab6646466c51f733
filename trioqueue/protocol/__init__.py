"""Decisions of the protocol, as plain functions and tables: nothing here waits or talks to anything."""
