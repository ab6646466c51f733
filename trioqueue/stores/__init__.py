"""Where mailboxes live: the contract that each store keeps, and the stores."""
