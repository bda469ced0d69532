"""What a run starts from, if it is not drawn: the weights of another run, grown if need be."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from resjax.config import ConfigError
from resjax.models.build import build_model
from resjax.models.grow import grow
from resjax.models.resnet import ResNet
from resjax.models.summary import variable_shapes
from resjax.training.feeds import IMAGES_TO_GROW_ON, Feed
