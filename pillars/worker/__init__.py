"""The worker: takes jobs off the queue and runs them.

Read in this order: registry (which function does what), context (what it sees of its job), attempts
(one try, with threads and failures beside it), claimer (filling the buffer), canceller (what shall
be stopped), finisher (writing results), worker (slots and stopping), builtin (noop, log, http).

The protocol
============

    queue --claim--> buffer --> slot: one attempt --> finisher --one commit--> queue

*Claim.* One claimer, never two claims at once. It asks for as many jobs as there are free slots and
for a little more (what the slots get through in PREFETCH seconds): a fast job never waits for a
round trip, a slow one's successors stay on the queue for whoever is free. When a claim comes short
it sleeps until the next job is due, at most POLL; a notification wakes it. Otherwise the slots do,
as they get through the buffer.
*Slot.* `concurrency` long-lived tasks take jobs from the buffer and make one attempt each.
*Finish.* Outcomes are written in batches. When too many wait, slots start nothing further.

Who is authoritative
====================

The jobs table. Each write after the claim names the worker and the attempt it speaks for, and
changes nothing if the table says otherwise. What this process believes only saves work.

What happens when
=================

- *A handler fails, whatever it raises*: failed, to be tried again by its policy; or dead.
- *A job type is unknown here*: put back for 10 to 60 s with the reason on its row and in the log,
  as a newer worker may know it. No attempt is counted, however often; it may be cancelled, and
  expires in its time.
- *Slow jobs come after fast ones*: what waits in the buffer while no slot becomes free for POLL
  seconds goes back to the queue, for workers that are free.
- *A timeout passes*: an async handler is cancelled where it awaits. A thread cannot be stopped: the
  attempt is written as failed at once, `current_job().cancelled` is set, and the slot stays
  occupied until the function returns.
- *A running job is to be cancelled*: its attempt is stopped as by a timeout, and ends as cancelled
  unless the handler returns first. If this worker is lost before that, or gives the job back,
  whoever claims it next does not start it.
- *The database is gone*: claims and writes are tried again for ever with jittered pauses; running
  jobs run on; outcomes wait.
- *The answer to a claim is lost*: the table says we run jobs that we know nothing of. After every
  failed claim the worker gives back what it holds by the table and not by its own knowledge.
- *The answer to a write is lost*: the write is repeated, and the fence refuses what is written
  already; a look at the table tells that from what came too late.
- *This worker is expelled* (paused, cut off): its jobs were given to others. Late results are
  refused; jobs in the buffer are not started but given back.
- *This worker is killed*: others expel it and its jobs go back to the queue. A job runs at least
  once.
- *The database server crashes*: a claim does not wait for the disk, so one of the last second may
  be forgotten, and with it whatever was committed after it. Its job runs again, as if this worker
  had been lost; jobs with a concurrency key or of a limited queue are claimed for good.
- *A stop is asked for*: no more claims; the buffer is given back; running jobs finish. At the
  deadline they are cancelled and given back, without an attempt being counted. Then the last
  outcomes are written; if the database stays away too long they are left for the rescue.
"""
