"""Pure builders of Kubernetes objects: facts and spec in, dicts out."""
