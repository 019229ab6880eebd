"""The bundled cluster: a real Kubernetes on one machine, without Docker and without a container registry."""
