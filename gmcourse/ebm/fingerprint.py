r"""Has an energy changed? What decides E, as far as that can be known, so that log Z need not be summed up again.

    E is fixed by    its modules, their settings, their tensors

For modules of PyTorch and of this course that is the whole truth, as long as nothing else is hung on them: hooks,
parametrizations, functions. Anything else may look at what nobody sees, a list next to it or a global, and is not known.
"""

from torch import Tensor, nn

from gmcourse.sampling.backprop import HOOKS

KNOWN = ("torch.nn.modules.", "gmcourse.")
PLAIN = bool | int | float | str | None
MACHINERY = frozenset({*vars(nn.Module()), *HOOKS})  # `training` among them: asked in evaluation mode
Fingerprint = tuple[list, list[Tensor]]


class _Unknown(Exception):
    """Something that may decide E and cannot be compared."""


def fingerprint(energy) -> Fingerprint | None:
    """Settings and tensors that together decide E, without copies; None where something else may do so, too."""
    if not isinstance(energy, nn.Module):
        return None
    modules = list(energy.modules())
    order = {id(module): place for place, module in enumerate(modules)}
    try:
        settings = [_settings(module, order) for module in modules]
    except _Unknown:
        return None
    return settings, [tensor.detach() for tensor in (*energy.parameters(), *energy.buffers())]


def kept(now: Fingerprint) -> Fingerprint:
    """A fingerprint to be compared with later ones: with copies of the tensors."""
    return now[0], [tensor.clone() for tensor in now[1]]


def same(now: Fingerprint, before: Fingerprint) -> bool:
    """Whether two fingerprints are of one energy, on one device, in one precision."""
    return now[0] == before[0] and len(now[1]) == len(before[1]) and all(map(_equal, now[1], before[1]))


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def _settings(module: nn.Module, order: dict[int, int]) -> tuple:
    if not type(module).__module__.startswith(KNOWN) or any(getattr(module, hooks) for hooks in HOOKS):
        raise _Unknown
    own = {name: _plain(value, order) for name, value in vars(module).items() if name not in MACHINERY}
    held = [module._modules, module._parameters, module._buffers]
    return type(module), own, [[(name, order.get(id(part), part is None)) for name, part in group.items()] for group in held]


def _plain(value, order: dict[int, int]):
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, tuple | list):
        return type(value), [_plain(part, order) for part in value]
    if isinstance(value, nn.Module) and id(value) in order:
        return nn.Module, order[id(value)]
    raise _Unknown
