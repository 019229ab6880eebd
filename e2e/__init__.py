"""End-to-end proof: a cluster, the chart installed on it, real databases and real queues."""
