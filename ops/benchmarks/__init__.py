"""Benchmarks of the hot paths: each beside the bare SQL that does the least for the same end.

A figure alone says more of the machine and of the minute than of the program. So ours and bare are
measured in turns, round after round, on the same server; what counts is the ratio of a round, and
of the rounds the median.
"""
