"""The networks written a second time, in PyTorch and straight from the papers' figures.

It reads the tree of variables of resjax and shares nothing else with it.
"""

import numpy as np
import torch
import torch.nn.functional as F

EPSILON = 1e-5


class TorchNet:
    """A forward pass over variables, and its gradients.

    Args:
      variables: as of `resjax`, any float dtype.
      settings: keys of config.model that the architecture depends on.
      stages, strides: of the network.
    """

    def __init__(self, variables, settings, stages, strides):
        self.settings, self.stages, self.strides = settings, stages, strides
        self.params = self._tensors(variables["params"], True)
        self.stats = self._tensors(variables.get("batch_stats", {}), False)
        self.moved = {}

    def _tensors(self, tree, trainable):
        if hasattr(tree, "items"):
            return {name: self._tensors(value, trainable) for name, value in tree.items()}
        return torch.tensor(np.asarray(tree), requires_grad=trainable)

    def gradients(self, tree=None):
        tree = self.params if tree is None else tree
        if isinstance(tree, dict):
            return {name: self.gradients(value) for name, value in tree.items()}
        return (torch.zeros_like(tree) if tree.grad is None else tree.grad).numpy()

    def conv(self, p, x, stride=1, groups=1):
        if p["kernel"].ndim == 2:
            return x @ p["kernel"] + p.get("bias", 0)
        size = p["kernel"].shape[0]
        weight = p["kernel"].permute(3, 2, 0, 1)
        return F.conv2d(x, weight, p.get("bias"), stride, size // 2, groups=groups)

    def norm(self, p, s, x, train, path):
        if p is None:
            return x
        axes = [axis for axis in range(x.ndim) if axis != 1]
        if train:
            mean, var = x.mean(axes), x.var(axes, unbiased=False)
            self.moved[path] = (mean.detach().numpy(), var.detach().numpy())
        else:
            mean, var = s["mean"], s["var"]
        shape = [1, -1] + [1] * (x.ndim - 2)
        x = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + EPSILON)
        return x * p["scale"].view(shape) + p["bias"].view(shape)

    def block(self, p, s, x, stride, train, opening, path):
        kind, order = self.settings["shortcut"], self.settings.get("order", "post")
        names = sorted(name for name in p if name.startswith(("conv", "dense")))
        widths = [p[name]["kernel"].shape[-1] for name in names]
        strides = [1] * len(names)
        v1 = self.settings.get("stride_in") == "1x1"
        strides[1 if len(names) == 3 and not v1 else 0] = stride
        groups = [self.settings.get("groups", 1) if i == 1 and len(names) == 3 else 1
                  for i in range(len(names))]  # fmt: skip

        def conv(i, y):
            return self.conv(p[names[i]], y, strides[i], groups[i])

        def norm(number, y):
            name = f"norm{number}"
            return self.norm(p.get(name), s.get(name), y, train, (*path, name))

        changes = stride != 1 or x.shape[1] != widths[-1]
        projects = kind == "projection_all" or (kind.endswith("projection") and changes)
        k = len(names)
        y = x
        if order in ("post", "bn_after_add", "relu_before_add"):
            for i in range(k):
                y = conv(i, y)
                if i < k - 1:
                    y = F.relu(norm(i + 1, y))
            if order == "post":
                return F.relu(self.join(p, s, x, norm(k, y), stride, train, path, projects))
            if order == "bn_after_add":
                return F.relu(norm(k, self.join(p, s, x, y, stride, train, path, projects)))
            y = F.relu(norm(k, y))
            return self.join(p, s, x, y, stride, train, path, projects)
        if order == "relu_preact":
            y = x if opening else F.relu(x)
            x = y if projects else x
            for i in range(k):
                y = norm(i + 1, conv(i, y))
                y = F.relu(y) if i < k - 1 else y
            return self.join(p, s, x, y, stride, train, path, projects)
        assert order == "preact"
        for i in range(k):
            if not (i == 0 and opening):
                y = F.relu(norm(i + 1, y))
            if i == 0 and projects:
                x = y
            y = conv(i, y)
        return self.join(p, s, x, y, stride, train, path, projects)

    def join(self, p, s, x, branch, stride, train, path, projects):
        kind, own = self.settings["shortcut"], p.get("shortcut", {})
        if kind == "none":
            return branch
        if projects:
            if kind == "avgpool_projection" and stride > 1:
                x = F.avg_pool2d(x, stride, stride, ceil_mode=True, count_include_pad=False)
                stride = 1
            y = self.conv(own["projection"], x, stride)
            stats = s.get("shortcut", {}).get("norm")
            return branch + self.norm(own.get("norm"), stats, y, train, (*path, "shortcut", "norm"))
        carried = x if x.ndim == 2 else x[:, :, ::stride, ::stride]
        more = branch.shape[1] - x.shape[1]
        if more:
            left = more // 2 if self.settings.get("identity_pad") == "both" else 0
            zeros = torch.zeros(carried.shape[0], more, *carried.shape[2:], dtype=x.dtype)
            carried = torch.cat([zeros[:, :left], carried, zeros[:, left:]], 1)
        if kind == "scaled":
            return (
                self.settings["shortcut_scale"] * carried + self.settings["branch_scale"] * branch
            )
        if kind.endswith("gate"):
            gate = torch.sigmoid(self.conv(own["gate"], x, stride))
            return (1 - gate) * carried + (gate * branch if kind == "exclusive_gate" else branch)
        if kind == "dropout":
            assert not train
            return 0.5 * carried + branch
        assert kind in ("identity", "projection", "avgpool_projection")
        return carried + branch

    def __call__(self, images, train):
        """Images `[N, H, W, C]` or `[N, F]` to logits."""
        x = images.permute(0, 3, 1, 2) if images.ndim == 4 else images
        p, s, stem = self.params, self.stats, self.params["stem"]
        names = sorted(name for name in stem if name.startswith(("conv", "dense")))
        for i, name in enumerate(names, 1):
            stride = 2 if self.settings["name"] == "imagenet" and i == 1 else 1
            stats = s.get("stem", {}).get(f"norm{i}")
            x = self.conv(stem[name], x, stride)
            x = F.relu(self.norm(stem.get(f"norm{i}"), stats, x, train, ("stem", f"norm{i}")))
        if self.settings["name"] == "imagenet":
            x = F.max_pool2d(x, 3, 2, 1)

        def pick(tree, index):
            if isinstance(tree, dict):
                return {name: pick(value, index) for name, value in tree.items()}
            return tree[index]

        for i, (blocks, stride) in enumerate(zip(self.stages, self.strides, strict=True), 1):
            stage, stats = p[f"stage{i}"], s.get(f"stage{i}", {})
            path = (f"stage{i}", "first")
            x = self.block(stage["first"], stats.get("first", {}), x, stride, train, i == 1, path)
            for b in range(blocks - 1):
                one, own = pick(stage["rest"], b), pick(stats.get("rest", {}), b)
                x = self.block(one, own, x, 1, train, False, (f"stage{i}", "rest", b))
        order = self.settings.get("order", "post")
        if order == "preact":
            x = self.norm(p.get("norm"), s.get("norm"), x, train, ("norm",))
        if order in ("preact", "relu_preact"):
            x = F.relu(x)
        x = x.mean((2, 3)) if x.ndim == 4 else x
        return x @ p["head"]["kernel"] + p["head"]["bias"]
