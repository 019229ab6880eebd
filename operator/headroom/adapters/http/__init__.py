"""What the operator serves itself: probes and metrics, outside Kopf, so that followers answer too."""
