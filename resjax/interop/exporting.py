"""Export of weights: under another framework's names, or as a function."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from resjax.config import ConfigError, choose
from resjax.interop.formats import SAFETENSORS
from resjax.interop.importing import expected
from resjax.interop.metadata import write_metadata
from resjax.interop.names import BATCHES, NAMINGS, Naming, places, to_theirs
from resjax.interop.recognise import recognise
from resjax.models.build import build_model, make_spec
from resjax.runs.matching import refuse_other_function, refuse_other_tensors
from resjax.runs.rundir import make_directory
from resjax.runs.weights import Weights, paths, write_whole

STABLEHLO = ".stablehlo"


def export(
    weights: Weights, path: Path | str, names: str | None = None, folded: bool = False
) -> str:
    """Writes a file in the format given by its suffix; returns a line that says what was written.

    Args:
      weights: weights of a network of resjax.
      path: file that ends with .safetensors or .stablehlo.
      names: key of `NAMINGS`, names of the tensors; for .safetensors alone.
      folded: whether normalisations are put into layers; for .stablehlo alone.

    Raises:
      ConfigError: for another suffix, options that do not fit it, or a network that cannot be
        exported so.
    """
    path = Path(path)
    refuse_unfit(path, names, folded)
    if names:
        return f"{path}: {export_file(weights, path, names)} tensors by names of {names}"
    from resjax.interop.folding import fold
    from resjax.interop.stablehlo import write_stablehlo

    weights = fold(weights) if folded else weights
    make_directory(path.parent)
    write_stablehlo(weights, path)
    return f"{path}: images [N, {', '.join(map(str, weights.about.image_shape))}] to logits"


def refuse_unfit(path: Path, names: str | None, folded: bool) -> None:
    """Raises ConfigError for options of `export` that do not fit each other."""
    suffixes = SAFETENSORS, STABLEHLO
    if path.suffix not in suffixes:
        raise ConfigError(f"{path} ends with neither of {', '.join(suffixes)}")
    if (path.suffix == SAFETENSORS) != (names is not None) or (folded and names):
        raise ConfigError(
            f"{path.name}: give --names for {SAFETENSORS}, such as --names=torchvision, and "
            f"--fold, if at all, for {STABLEHLO}"
        )
    if names:
        choose(NAMINGS, names, "names")


def export_file(weights: Weights, path: Path, names: str) -> int:
    """Writes a .safetensors file that the other framework loads; returns the number of tensors.

    Reading it again gives the same network, bit for bit, with the same images and classes.

    Args:
      weights: weights of a network of resjax.
      path: the file.
      names: key of `NAMINGS`.

    Raises:
      ConfigError: if networks of that framework have no such architecture.
    """
    from safetensors.numpy import save_file

    tensors = named_tensors(weights, names)
    metadata = {"format": "pt"} | write_metadata(weights)
    make_directory(path.parent)
    write_whole(path, lambda partial: save_file(tensors, partial, metadata))
    return len(tensors)


def named_tensors(weights: Weights, names: str) -> dict[str, np.ndarray]:
    """Returns {name: tensor} by the names of another framework, as `export_file` writes them.

    Raises:
      ConfigError: as `export_file`.
    """
    naming = choose(NAMINGS, names, "names")
    model = weights.about.config.model
    leaves = {name: np.asarray(leaf) for name, leaf in paths(weights.variables).items()}
    stem = make_spec(model).stem
    fitting = [each for each in NAMINGS if _has(NAMINGS[each], model)]
    if names not in fitting:
        others = f"choose one of: {', '.join(fitting)}, or " if fitting else ""
        raise ConfigError(
            f"{names} has no networks with model.order={model.order}, "
            f"model.shortcut={model.shortcut} and the {stem} stem; {others}write StableHLO"
        )
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    table = places(naming, stem, model.shortcut, shapes)
    tensors = {
        name: to_theirs(leaves[place.path][... if place.row is None else place.row], place.shape)
        for name, place in table.items()
    }
    _refuse_misread(weights, names, {name: tensor.shape for name, tensor in tensors.items()})
    if weights.about.batches is not None:
        for name in list(tensors):
            if name.endswith(".running_var"):
                counter = name.removesuffix("running_var") + BATCHES
                tensors[counter] = np.array(weights.about.batches, np.int64)
    return tensors


def _has(naming: Naming, model: ConfigDict) -> bool:
    """Tells whether a codebase has networks of such an order, shortcut and stem."""
    shortcuts = {*naming.shortcuts, naming.unprojected.get("shortcut")}
    return (
        model.order == naming.settings.get("order", "post")
        and make_spec(model).stem in naming.stems
        and model.shortcut in shortcuts
    )


def _refuse_misread(weights: Weights, names: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises ConfigError if these names and shapes would be recognised as another network."""
    remedy = f"names of {names} cannot say that; choose other names, or write StableHLO"
    found, about = recognise(shapes, "the network"), weights.about
    models = (build_model(config, found.classes) for config in (found.config, about.config))
    refuse_other_function(*models, f"what would be read from names of {names}", remedy)
    table = expected(found, found.config, about.image_shape)
    wanted = {name: place.shape for name, place in table.items()}
    refuse_other_tensors(shapes, wanted, "the network", remedy)
