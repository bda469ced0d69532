"""The same training step as others write it: PyTorch eager, and stock Flax.

Each maker takes a work and returns a function that takes steps and waits for the last. The nets are
those of torchvision and of Flax's own examples in style, with the shapes of the work: identity
shortcuts of option A or projections, SGD with momentum and weight decay, BatchNorm in training.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Net:
    """A network in the terms that all peers understand."""

    stages: tuple[int, ...]
    widths: tuple[int, ...]  # inner channels of each stage
    expansion: int  # output channels of a block over its inner ones; 4 is a bottleneck
    large_stem: bool  # 7x7 with stride 2 and a max-pool, or 3x3
    shortcut: str  # none, identity (option A), projection or projection_all
    image: tuple[int, int, int]
    classes: int


def torch_step(
    net: Net,
    batch: int,
    channels_last=False,
    dtype=None,
    compiled=False,
    evaluated: int = 0,
    steps: int = 1,
):
    """A function that takes steps; with `evaluated`, also one that evaluates so many images."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.backends.cudnn.benchmark = True  # it chooses among its kernels, as XLA does

    class Block(nn.Module):
        def __init__(self, before, inner, stride):
            super().__init__()
            after = inner * net.expansion
            if net.expansion == 1:
                shapes = [(before, inner, 3, stride), (inner, after, 3, 1)]
            else:
                shapes = [(before, inner, 1, 1), (inner, inner, 3, stride), (inner, after, 1, 1)]
            self.convs = nn.ModuleList(
                nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in shapes
            )
            self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in shapes)
            self.stride, self.more = stride, after - before
            self.projection = None
            changes = stride > 1 or before != after
            if net.shortcut == "projection_all" or (net.shortcut == "projection" and changes):
                self.projection = nn.Sequential(
                    nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
                )

        def forward(self, x):
            y = x
            for conv, norm in zip(self.convs[:-1], self.norms[:-1], strict=True):
                y = F.relu(norm(conv(y)), inplace=True)
            y = self.norms[-1](self.convs[-1](y))
            if net.shortcut == "none":
                return F.relu(y, inplace=True)
            if self.projection is not None:
                x = self.projection(x)
            elif self.stride > 1 or self.more:
                x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
            return F.relu(y + x, inplace=True)

    channels = net.image[-1]
    size, stride = (7, 2) if net.large_stem else (3, 1)
    layers = [nn.Conv2d(channels, net.widths[0], size, stride, size // 2, bias=False)]
    layers += [nn.BatchNorm2d(net.widths[0]), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(3, 2, 1)] if net.large_stem else []
    before = net.widths[0]
    for stage, (blocks, inner) in enumerate(zip(net.stages, net.widths, strict=True)):
        for block in range(blocks):
            layers.append(Block(before, inner, 2 if stage and not block else 1))
            before = inner * net.expansion
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, net.classes)]
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = nn.Sequential(*layers).to(device)
    format_ = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=format_).train()
    images = torch.randn(batch, channels, *net.image[:2], device=device)
    images = images.to(memory_format=format_)
    labels = torch.randint(net.classes, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    forward = torch.compile(model) if compiled else model

    def step():
        for _ in range(steps):
            with torch.autocast(device, dtype or torch.float32, enabled=dtype is not None):
                loss = F.cross_entropy(forward(images).float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    if not evaluated:
        return step
    others = torch.randn(evaluated, channels, *net.image[:2], device=device)

    def evaluate():
        model.eval()
        with torch.no_grad():
            for part in others.to(memory_format=format_).split(500):
                F.cross_entropy(model(part), torch.zeros(len(part), dtype=torch.long)).item()
        model.train()

    return step, evaluate


def flax_training(net: Net, dtype="float32"):
    """The step of stock Flax, and a function of images that draws the state that it is taken from.

    A state is parameters, statistics and the optimiser's state; a step is a function of these,
    images and labels, and returns these.
    """
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    def conv(channels, size, stride):
        return nn.Conv(
            channels, (size, size), (stride, stride), size // 2, use_bias=False, dtype=dtype
        )

    def norm():
        return nn.BatchNorm(use_running_average=False, momentum=0.9, dtype=dtype)

    class Block(nn.Module):
        inner: int
        stride: int

        @nn.compact
        def __call__(self, x):
            after = self.inner * net.expansion
            shapes = [(self.inner, 3, self.stride), (after, 3, 1)]
            if net.expansion > 1:
                shapes = [(self.inner, 1, 1), (self.inner, 3, self.stride), (after, 1, 1)]
            y = x
            for shape in shapes[:-1]:
                y = nn.relu(norm()(conv(*shape)(y)))
            y = norm()(conv(*shapes[-1])(y))
            if self.stride > 1 or x.shape[-1] != after:
                if net.shortcut == "projection":
                    x = norm()(conv(after, 1, self.stride)(x))
                else:
                    x = x[:, :: self.stride, :: self.stride]
                    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, after - x.shape[-1])))
            return nn.relu(x + y)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = conv(net.widths[0], *((7, 2) if net.large_stem else (3, 1)))(x)
            x = nn.relu(norm()(x))
            if net.large_stem:
                x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
            for stage, (blocks, inner) in enumerate(zip(net.stages, net.widths, strict=True)):
                for block in range(blocks):
                    x = Block(inner, 2 if stage and not block else 1)(x)
            return nn.Dense(net.classes)(x.mean((1, 2)).astype(jnp.float32))

    model = Model()
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, 0.9))

    def draw(images):
        variables = model.init(jax.random.key(2), images)
        params, stats = variables["params"], variables["batch_stats"]
        return params, stats, optimizer.init(params)

    def train(params, stats, opt_state, images, labels):
        def loss_of(params):
            logits, new = model.apply(
                {"params": params, "batch_stats": stats}, images, mutable=["batch_stats"]
            )
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, new["batch_stats"]

        gradients, stats_ = jax.grad(loss_of, has_aux=True)(params)
        updates, opt_state_ = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), stats_, opt_state_

    return train, draw


def flax_step(net: Net, batch: int, dtype="float32", steps: int = 1):
    import jax

    train, draw = flax_training(net, dtype)
    images = jax.random.normal(jax.random.key(0), (batch, *net.image))
    labels = jax.random.randint(jax.random.key(1), (batch,), 0, net.classes)
    state = jax.jit(draw)(images)
    compiled = jax.jit(train, donate_argnums=(0, 1, 2)).lower(*state, images, labels).compile()

    def step():
        nonlocal state
        for _ in range(steps):
            state = compiled(*state, images, labels)
        jax.block_until_ready(state)

    return step
