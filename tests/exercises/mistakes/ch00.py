"""What one may get wrong in the very first exercise: exercise -> [(what is wrong, function)]."""

import math

LOG_2PI = math.log(2 * math.pi)

MISTAKES = {
    "start.standard_normal_log_prob": [
        ("constant once, not per dimension", lambda x: -0.5 * (x**2).sum(1) - 0.5 * LOG_2PI),
        ("no constant", lambda x: -0.5 * (x**2).sum(1)),
        ("no half before the square", lambda x: (-(x**2) - 0.5 * LOG_2PI).sum(1)),
        ("wrong sign", lambda x: 0.5 * (x**2 + LOG_2PI).sum(1)),
        ("mean over dimensions", lambda x: -0.5 * (x**2 + LOG_2PI).mean(1)),
        ("norm instead of its square", lambda x: -0.5 * x.norm(dim=1) - 0.5 * LOG_2PI * x.shape[1]),
        ("the density, not its logarithm", lambda x: (-0.5 * (x**2 + LOG_2PI).sum(1)).exp()),
        ("summed over everything", lambda x: -0.5 * (x**2 + LOG_2PI).sum()),
    ]
}
