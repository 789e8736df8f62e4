"""When schedules fire: their definition, their files and their ticks, as pure functions of values.

Read in this order; each module needs only those before it:

- `faults`: what is wrong with a definition, all of it at once.
- `duration`: `15m` to seconds and back.
- `dial`: a cron expression as a clock face without a zone; the only user of croniter.
- `expression`: what users may write, with advice; `H` spread by name.
- `zones`: the stretches of constant offset in a time zone.
- `fields`: the keys of a schedule, declared once for loader, schema and documentation.
- `definition`: `Timing` and `Schedule`, and how a mapping becomes one.
- `fires`: the next tick, with the rule for clock changes.
- `yaml_marks`, `files`: a directory of YAML files, each fault with its line.
- `schema`: the JSON Schema for editors.
"""
