"""Networks of others, by name: a loss sees through them, and what comes back is judged by them.

`architectures` knows those of timm and torchvision, and the small ResNets of CIFAR-10 in `cifar`. Weights are
safetensors, from a file or from timm's pretrained download, never a pickle.
"""
