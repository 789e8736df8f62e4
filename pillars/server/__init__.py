"""The HTTP face: the user's web application with API, discovery and status page beside it.

Read in this order: problems (every error's shape), fields (what a request may hold), records (what
an answer holds), operations (how one operation becomes a route), auth, then the operations
themselves: job_bodies, api_jobs, api_queues, schedule_bodies, api_schedules, api_schedule_life,
api_cluster, api (their table), openapi, discovery; then html, status and status_page (the page for
people); last site, which puts all of it together.
"""
