"""Moving in: schedules of other schedulers as drafts of ours, pure functions of text.

- `draft`: what an importer makes of one entry, and the check by our own loader's rules.
- `fields`: cron dialects made ours, or refused where they mean something else.
- `crontab`, `kubernetes`, `celery`: one source each, text (for Celery: source code or a live
  mapping) to drafts; `celery_source` reads Python without running it.
- `writer`: drafts to a YAML file, what is not translated as comments beside it.

What would fire at other times than before is never translated: it is said and left to its owner.
"""
