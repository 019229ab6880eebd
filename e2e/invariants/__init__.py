"""What must hold at all times, checked from outside beside every test: Kubernetes objects, SQL, and reads.

`facts` holds what was seen, `rules` says what is wrong in it, `checker` for how long it may be; all three are pure.
`kube` and `witness` collect, `patrol` runs them beside a test.
"""
