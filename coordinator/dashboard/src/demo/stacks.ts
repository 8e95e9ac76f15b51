// What the threads of the simulated hanging worker say when they are asked.

export const STACKS = `Thread 0x00007f1c8e7fc640 [strata-heartbeat] (most recent call first):
  File "/usr/lib/python3.12/threading.py", line 359 in wait
  File "/srv/strata/workers/session.py", line 214 in _beat

Thread 0x00007f1c8f7fe640 [prefetch] (most recent call first):
  File "/srv/app/images.py", line 88 in read_archive
  File "/srv/app/images.py", line 52 in batches
  File "/srv/strata/workers/batches.py", line 140 in _fill

Current thread 0x00007f1ca3b4c740 [MainThread] (most recent call first):
  File "/usr/lib/python3.12/queue.py", line 180 in get
  File "/srv/strata/workers/batches.py", line 97 in __next__
  File "/srv/app/train.py", line 41 in main
  File "/srv/app/train.py", line 66 in <module>
`;
