"""The composition root: what each process is made of, in which order it starts and stops.

Read in this order: frame (what all have in common), cron, worker, server; then children (processes
that start others), workers (several workers as one), and up, which runs all on one machine.
"""
