"""The load test: how much this installation takes, on a database of its own, counted afterwards.

What is expected is computed without what is examined: which ticks there should be is plain
arithmetic (`mixes`), never `pillars.cron.fires`; what there was is counted in the jobs table, tick
by tick, when all is over (`verdict`). Read in this order:

- `orders`: what a run is to be, checked at once; the plan of who leaves when.
- `mixes`: the schedules of a run, and the ticks they demand.
- `ground`: the database, and why it is never the user's.
- `crew`: the processes. `meter`: what they and the database take of this machine.
- `watch`: what goes on, once a second.
- `verdict`: what it came to, counted in the database.
- `run`: one run from start to report.
- `charts`, `page`: the report as one HTML page.
"""
