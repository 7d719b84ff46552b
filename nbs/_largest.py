"""How much is held at once, for the tests of several pages: `%run _largest.py`."""
import torch
from torch.utils._python_dispatch import TorchDispatchMode

def tensors(o):
    "All tensors in what an operation returns"
    if torch.is_tensor(o): return [o]
    if isinstance(o, (tuple, list)): return [t for v in o for t in tensors(v)]
    return []

class Largest(TorchDispatchMode):
    "Keeps the number of elements of the largest tensor that is made"
    most = 0
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        made = f(*args, **(kwargs or {}))
        self.most = max([self.most, *(t.numel() for t in tensors(made))])
        return made

def largest(f):
    "Elements of the largest tensor that is made in a call"
    with Largest() as seen: f()
    return seen.most
