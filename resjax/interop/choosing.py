"""The network to take from a file that may hold several, such as weights and their averages."""

from collections.abc import Mapping
from typing import NamedTuple

from resjax.config import ConfigError
from resjax.interop.formats import Content, listed
from resjax.interop.heads import find_head
from resjax.interop.rebuilding import Tensor
from resjax.interop.recognise import prefixes

AVERAGES = ("ema", "average", "averaged", "swa", "shadow", "teacher")
"""Words in the keys of weights that are averages over training steps."""

COUNTER = "n_averaged"
"""The name of the counter that PyTorch's AveragedModel keeps beside the averages."""


class FoundNetwork(NamedTuple):
    """The tensors of one network in a file.

    Attributes:
      place: place of their mapping, followed by the prefix.
      prefix: start that all of their names have.
      tensors: {name without the prefix: tensor}.
      others: {name: tensor} in the same mapping of those that do not have the prefix.
      average: whether it is an average of weights over a training.
      head: line to be printed about its head, if that was found under another name.
    """

    place: str
    prefix: str
    tensors: dict[str, Tensor]
    others: Mapping[str, Tensor]
    average: bool
    head: str = ""


def choose_network(content: Content, choice: str, what: str) -> FoundNetwork:
    """Chooses the wanted network of a file."""
    found = _networks(content)
    if not found:
        return _unknown(content, what)
    places = ", ".join(network.place or "the file itself" for network in found)
    if choice:
        wanted = [network for network in found if network.place == choice] or [
            network
            for network in found
            if choice.lower() in network.place.lower() or (choice == "ema" and network.average)
        ]
        remedy = "; name one of them"
    else:
        wanted = [network for network in found if not network.average] or found
        remedy = f"; choose one by --weights={wanted[0].place}" if len(wanted) > 1 else ""
    if len(wanted) != 1:
        asked = f"--weights={choice} is {'several' if wanted else 'none'} of " if choice else ""
        raise ConfigError(f"{what} has {len(found)} networks: {asked}{places}{remedy}")
    return _with_head(wanted[0])


def _with_head(network: FoundNetwork) -> FoundNetwork:
    """The network with its head under the usual name, if it lies in it or beside it."""
    above = _above(network.prefix)
    beside = {
        name.removeprefix(above): tensor
        for name, tensor in network.others.items()
        if network.prefix and name.startswith(above)
    }
    if above in map(_above, prefixes(network.others)):
        beside = {}  # of which network the head would be is not known
    for candidates, start in ((network.tensors, network.prefix), (beside, above)):
        if found := find_head(network.tensors, candidates):
            gone = {start + name for name in found.names}
            own = {
                name: tensor
                for name, tensor in network.tensors.items()
                if network.prefix + name not in gone
            }
            others = {name: each for name, each in network.others.items() if name not in gone}
            return network._replace(tensors=own | found.tensors, others=others, head=found.note)
    return network


def _above(prefix: str) -> str:
    """The prefix of what lies beside a network: "model." for "model.backbone."."""
    return prefix[: prefix.rstrip(".").rfind(".") + 1]


def _unknown(content: Content, what: str) -> FoundNetwork:
    """Takes all tensors of the largest mapping, so that `recognise` can say what is wrong."""
    if not any(content.tables.values()) and content.keys:
        raise ConfigError(
            f"{what} holds no tensors by name, but {listed(content.keys)}; write the state_dict "
            "of the network"
        )
    if not content.tables:
        raise ConfigError(f"{what} holds no tensors by name; write the state_dict of the network")
    place, largest = max(content.tables.items(), key=lambda item: len(item[1]))
    return FoundNetwork(place, "", dict(largest), {}, False)


def notes_on_choice(content: Content, network: FoundNetwork) -> list[str]:
    """Lines that say which of the tensors in a file were taken."""
    notes = []
    if network.prefix:
        notes.append(f"the names begin with {network.prefix!r}, which was left out")
    networks = tuple(filter(None, prefixes(network.others)))
    if beside := tuple(name for name in network.others if not name.startswith(networks)):
        notes.append(f"beside the network, and left out: {listed(beside)}")
    if network.head:
        notes.append(network.head)
    others = [other for other in _networks(content) if other.place != network.place]
    if others:
        average = next((other for other in others if other.average), None)
        word = "ema" if average and not network.average else others[0].place
        kind = "the average" if network.average else "the weights"
        notes.append(
            f"took {kind} in {network.place!r}; --weights={word} takes those in "
            f"{(average or others[0]).place!r}"
        )
    elif network.average:
        notes.append("these are averages of weights over the steps of a training")
    return notes


def _networks(content: Content) -> list[FoundNetwork]:
    """The networks in a file, by the names of their blocks."""
    found = []
    for place, table in content.tables.items():
        for prefix in prefixes(table):
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in table.items()
                if name.startswith(prefix)
            }
            others = {
                name: tensor
                for name, tensor in table.items()
                if not name.startswith(prefix) and name != COUNTER
            }
            where = ".".join(part for part in (place, prefix.rstrip(".")) if part)
            words = where.lower().replace(".", "_").split("_")
            average = COUNTER in table or not set(words).isdisjoint(AVERAGES)
            found.append(FoundNetwork(where, prefix, own, others, average))
    return found
