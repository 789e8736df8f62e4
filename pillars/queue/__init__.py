"""The trunk: owns the jobs table and is the only room that writes it.

Read in this order: states, retry, trace, jobs (what can be said of one), placing and enqueue,
attempt and claims (claim, finish, return), lanes, gate and limits (who has to wait), upkeep
(rescue, prune), desk (what people ask for: list, show, retry, cancel).
"""
