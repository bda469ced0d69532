"""The commands on weights: import, export, evaluate, predict."""

import argparse
import dataclasses
import json

from ml_collections import ConfigDict

from resjax.overrides import override


def _import(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.display_weights import print_imported
    from resjax.interop.importing import import_file, read_names, write_run

    names = read_names(options.class_names) if options.class_names else ()
    imported = import_file(options.file, lambda config: override(config, rest), names)
    write_run(options.out, imported, options.file)
    print_imported(imported, options.file)
    print(f"run: {options.out}")
    return 0


def _export(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.interop.exporting import export
    from resjax.interop.importing import read_any

    weights = read_any(options.source, lambda config: override(config, rest)).weights
    print(export(weights, options.out, options.names, options.fold))
    return 0


def _evaluate(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.display_weights import print_imported, print_scores
    from resjax.interop.importing import read_any
    from resjax.interop.scoring import evaluate
    from resjax.training.compilation import enable_cache

    def chosen(config: ConfigDict) -> list[str]:
        if options.data and options.data != config.data.name:
            config.data.name, config.data.test = options.data, ""
        config.data.test = options.split or config.data.test
        return override(config, rest)

    imported = read_any(options.source, chosen)
    config = imported.weights.about.config
    enable_cache()
    if options.source.is_file():
        print_imported(imported, options.source)
    scores = evaluate(imported.weights, config.data, config.eval.batch_size)
    if options.json:
        print(json.dumps(dataclasses.asdict(scores), indent=2))
    else:
        print_scores(scores, config.data)
    return 0


def _predict(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.display_weights import print_imported, print_predictions
    from resjax.interop.importing import read_any
    from resjax.interop.predicting import predict
    from resjax.training.compilation import enable_cache

    imported = read_any(options.source, lambda config: override(config, rest))
    enable_cache()
    if options.source.is_file():
        print_imported(imported, options.source)
    found = predict(
        imported.weights, imported.weights.about.config.data, options.images, options.top
    )
    print_predictions(found, options.json)
    return 0


COMMANDS = {"import": _import, "export": _export, "evaluate": _evaluate, "predict": _predict}
