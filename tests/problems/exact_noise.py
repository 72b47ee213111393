"""What a perfect net says: the noise that is in x_t, in the mean, for data whose diffused density is known."""

from torch import nn


class ExactNoise(nn.Module):
    """E[ε | x_t], which is −√(1 − ᾱ_t) times the score of the diffused data; x (n, *event_shape) at one common t (n,)."""

    def __init__(self, data, chain):
        super().__init__()
        self.data, self.chain = data, chain

    def forward(self, x, t):
        alpha, sigma = (float(v) for v in self.chain.marginal(x, int(t[0])))
        return -sigma * self.data.diffused(alpha, sigma).score(x)
