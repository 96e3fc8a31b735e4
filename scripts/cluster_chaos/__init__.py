"""Faults of a whole installation on Redis Cluster and S3 under load, and what must hold afterwards.

installation  three instances, a cluster of three primaries with replicas, an object store, and nginx
nodes         questions to the nodes of the cluster, with timeouts
load          clients that submit links and poll jobs
faults        what breaks, and how it heals
checks        what must hold after each round, and at the end
commands      the commands that a cluster and a single server get for the same load
"""
