"""The load test: how much this installation takes, on a database of its own, counted afterwards.

What is expected is computed without what is examined: which ticks there should be is plain
arithmetic (`mixes`), never `pillars.cron.fires`; what there was is counted in the jobs table, tick
by tick, when all is over (`verdict`). Read in this order:

- `orders`: what a run is to be, checked at once; the plan of who leaves when.
- `mix`, `mixes`: the schedules of a run, and the ticks they demand.
- `ground`: the database, and why it is never the user's. `filling`: the schedules put into it.
- `crew`: the processes. `meter`: what they and the database take of this machine.
- `watch`: what goes on, once a second.
- `verdict`: what it came to, counted in the database.
- `measurement`: the run itself, from the first schedule to the last tick.
- `run`: what is around it: database, processes, signals; and everything away again.
- `report`: all that is known of a run. `charts`, `page`: the same as one HTML page.
"""
