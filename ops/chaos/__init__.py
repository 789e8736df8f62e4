"""The nemesis: real processes are harmed while they work, and the database is checked afterwards.

What is expected is computed without what is examined. Which ticks there should be is plain
arithmetic (`load`), not `pillars.cron.fires`; what ran, and when, is told by rows that handlers
leave in a table of their own (`work`), by the database's clock; who may be taken for dead follows
from what was done to whom.

Read in this order:

- `load`: the schedules, and the ticks they demand.
- `work`: the handlers, which leave a row before and after their work.
- `crew`: processes, one log file for each start.
- `proxy`: a link between processes and database that can be slowed, or cut without a FIN.
- `faults`: what can be done to them, in an order that a seed decides.
- `witness`: what is looked at while it happens.
- `evidence`: what is left: rows, logs, deeds, as plain values.
- `invariants`: pure functions from evidence to violations.
- `lateness`: figures for each fault, and a picture.
- `arena`: one run from start to evidence.
- `broken`: processes with a guard taken out, to see that the checks can fail.
"""
