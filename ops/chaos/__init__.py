"""The nemesis: real processes are harmed while they work, and the database is checked afterwards.

What is expected is computed without what is examined. Which ticks there should be is plain
arithmetic (`load`), not `pillars.cron.fires`; what ran, and when, is told by rows that handlers
leave in a table of their own (`work`), by the database's clock; who may be taken for dead follows
from what was done to whom.

Read in this order:

- `load`, `files`: the schedules, the ticks they demand, and their files in editions.
- `work`: the handlers, which leave a row before and after their work.
- `crew`: processes, one log file for each start.
- `pair`, `pooler`, `proxy`: the database with its standby, PgBouncer, and a link between processes
  and database that can be slowed, or cut without a FIN.
- `clocks`: wrong clocks for single processes.
- `field`, `faults`: what can be done to all these, in an order that a seed decides.
- `witness`: what goes on, and is looked at, while it happens.
- `evidence`: what is left: rows, logs, deeds, as plain values.
- `invariants`: pure functions from evidence to violations.
- `lateness`, `provoked`: figures for each fault beside what is aimed for, and a picture; what the
  faults brought about.
- `report`: all that in tables, JSON and Markdown.
- `arena`: one run from start to evidence.
- `broken`, `unshared`: processes with a guard taken out, to see that the checks can fail; crons
  without membership.
"""
