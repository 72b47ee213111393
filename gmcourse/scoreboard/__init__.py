"""The generative learning trilemma, measured: every family trains for the same time, on the same data, with several seeds.

    board = scoreboard.run("gaussians25", folder="runs/scoreboard/gaussians25")     # trains; goes on where it stopped
    board = scoreboard.results("gaussians25")                                       # what came out when we did
    scoreboard.verdicts(board)                                                      # thesis 2.6 beside the numbers

A recipe joins by naming its `family`.
"""

from gmcourse.scoreboard.claims import CLAIMS, Claim, Verdict, verdicts
from gmcourse.scoreboard.run import DATA, entrants, run
from gmcourse.scoreboard.shipped import results

__all__ = ["CLAIMS", "DATA", "Claim", "Verdict", "entrants", "results", "run", "verdicts"]
