"""The life of a set of read replicas: a sequencer and one file a stage."""
