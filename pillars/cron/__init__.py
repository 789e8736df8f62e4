"""The cron pillar: what schedules are, when they fire, and how their ticks become jobs.

First pure functions of values. Read in this order; each module needs only those before it:

- `faults`: what is wrong with a definition, all of it at once.
- `duration`: `15m` to seconds and back.
- `policies`: the choices an author makes.
- `dial`: a cron expression as a clock face without a zone; the only user of croniter.
- `expression`: what users may write, with advice; `H` spread by name.
- `zones`: the stretches of constant offset in a time zone.
- `readers`: raw values to the values meant.
- `fields`: the keys of a schedule, declared once for loader, schema and documentation.
- `definition`: `Timing` and `Schedule`, and how a mapping becomes one.
- `fires`: the next tick, with the rule for clock changes.
- `texts`, `yaml_scalars`, `yaml_marks`, `reading`, `files`: a directory of YAML files, each fault
  with its line; `elsewhere`: large ones are read in several processes.
- `code`: schedules written in an application; they and the files are one set.
- `schema`: the JSON Schema for editors.
- `plan`: what to enqueue for a schedule that is due.

Then, on the database:

- `ticker`: fires what is due.
- `changes`: what every change does with the ticks of a schedule; `edits`, `book`: definitions, and
  how a set of them is applied; `turn`, `reconciler`: keep the book equal to a directory.
- `bulk`: very many schedules of a few patterns, for load tests.
- `life`: pause, resume, remove, fire by hand; `backfill`: past ticks; `history`, `outcomes`: what
  became of the ticks; `upcoming`: the next ones.
"""
