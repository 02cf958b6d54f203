"""What `import ncafast` gives. In a file of its own, so that the command line can do without it, and without torch."""

# ruff: noqa: F401

from ncafast import backends, filters, heads, losses, models, uncertainty
from ncafast.backends import FallbackWarning
from ncafast.checkpoint import load, save
from ncafast.convergence import Convergence, Settled, SettledSamples
from ncafast.finetuning import finetune, num_trainable_parameters
from ncafast.functional import fire_mask, rollout
from ncafast.layers import ignore_hooks
from ncafast.nca import NCA
from ncafast.padding import pad_input
from ncafast.perception import perception
from ncafast.prediction import Prediction
from ncafast.rule import Alive, Rule
from ncafast.settling import settle
