"""The Kubernetes API over `kubernetes.aio`; dicts in and out."""
