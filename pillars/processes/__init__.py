"""The composition root: what each process is made of, in which order it starts and stops.

Read in this order: frame (what all have in common), cron, worker, server, then up, which runs them
all on one machine.
"""
