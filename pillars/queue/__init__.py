"""The trunk: owns the jobs table and is the only room that writes it.

Read in this order: states, retry, jobs (enqueue), claims (claim, finish, return), upkeep (rescue,
prune), desk (what people ask for: list, show, retry, cancel).
"""
