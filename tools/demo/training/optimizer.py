"""Muon for the matrices of the layers, AdamW for everything else."""

import torch


class Muon(torch.optim.Optimizer):
    """Momentum, then the update made orthogonal by five Newton–Schulz steps.

    Source: Jordan 2024, kellerjordan.github.io/posts/muon. Matrices of one shape go together.
    """

    def __init__(self, groups, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(groups, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = torch.stack([self._momentum(p, group["momentum"]) for p in parameters])
                for parameter, update in zip(parameters, orthogonalized(updates, shape)):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update, alpha=group["lr"])

    def _momentum(self, parameter, momentum):
        state = self.state[parameter]
        average = state.setdefault("average", torch.zeros_like(parameter))
        average.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum)


def orthogonalized(x, shape):
    rows, columns = shape
    x = x.transpose(1, 2) if rows > columns else x
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    x = x.transpose(1, 2) if rows > columns else x
    return x.float() * (0.2 * max(rows, columns) ** 0.5)


def make_optimizers(groups):
    """`groups`: pairs of named parameters and their share of the learning rate."""

    def is_matrix(name, parameter):
        return parameter.ndim == 2 and (".layers." in name or name.startswith("projector."))

    muon, adam = [], []
    for named, scale in groups:
        matrices = [p for name, p in named if is_matrix(name, p)]
        if matrices:
            muon.append(dict(params=matrices, scale=scale))
        adam.append(dict(params=[p for name, p in named if not is_matrix(name, p)], scale=scale))
    optimizers = [torch.optim.AdamW(adam, lr=1e-3, betas=(0.9, 0.97), weight_decay=0.01)]
    return optimizers + ([Muon(muon, lr=1e-3)] if muon else [])
