"""Pools whose work is interrupted, and what must hold afterwards."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import torch

from metro_fast.experts import Expert, ExpertPool, compress, load_expert

Weights = dict[str, torch.Tensor]


def base() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 4)).eval()


def expert(seed: int) -> Expert:
    """A LoRA of the first layer and a head, so that a swap decodes and copies."""
    config = peft.LoraConfig(
        r=2, target_modules=["0"], modules_to_save=["1"], init_lora_weights=False
    )
    adapted = peft.get_peft_model(base(), config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return compress(adapted, density=0.5)


def weights(model: Any) -> Weights:
    """The weights of an expert: the factors and the head."""
    named = model.named_parameters()
    return {n: p.detach().clone() for n, p in named if "lora_" in n or "modules_to_save" in n}


def equal(found: Weights, wanted: Weights) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)


class Case:
    """Experts in memory and on disk, and the weights that each brings.

    Args:
        folder: Where they are saved.
    """

    def __init__(self, folder: Path) -> None:
        self.experts = {name: expert(i) for i, name in enumerate("abcd")}
        self.wanted = {n: weights(load_expert(base(), e)) for n, e in self.experts.items()}
        self.paths = {n: e.save(folder / n).parent for n, e in self.experts.items()}
        self.limit = 2 * self.experts["a"].nbytes + 100

    def sequences(self) -> Iterator[tuple[str, Callable[[], ExpertPool], Callable[[Any], Any]]]:
        """The name of each sequence, what makes its pool, and what is interrupted."""
        yield "the first expert", self.empty, lambda pool: pool.add("a", self.experts["a"])
        yield "add, use, remove", self.of_one, self._add_use_remove
        yield "use and swap", self.of_two, self._use
        yield "dropped and read again", self.of_three_and_little_room, self._evict
        yield "a failing decode", self.of_a_damaged_one, self._fail

    def empty(self) -> ExpertPool:
        return ExpertPool(base())

    def of_one(self) -> ExpertPool:
        pool = self.empty()
        pool.add("a", self.experts["a"])
        return pool

    def of_two(self) -> ExpertPool:
        pool = self.of_one()
        pool.add("b", self.experts["b"])
        return pool

    def of_three_and_little_room(self) -> ExpertPool:
        pool = ExpertPool(base(), max_bytes=self.limit)
        for name in "abc":
            pool.add(name, self.paths[name])
        return pool

    def of_a_damaged_one(self) -> ExpertPool:
        """The bytes of d are changed in memory after they were checked."""
        pool = self.of_two()
        damaged = Expert(self.experts["d"].file.copy(), self.experts["d"].config)
        pool.add("d", damaged)
        damaged.block[damaged.block.size // 2 :] ^= 1
        return pool

    def _add_use_remove(self, pool: ExpertPool) -> None:
        pool.add("b", self.paths["b"])
        with pool.use("b"):
            pass
        pool.remove("a")
        pool.add("a", self.experts["a"])

    def _use(self, pool: ExpertPool) -> None:
        with pool.use("b"), pool.use("b"):
            pass
        pool.swap("a")
        with pool.use("a"):
            pass

    def _evict(self, pool: ExpertPool) -> None:
        for name in "bca":
            with pool.use(name):
                pass

    def _fail(self, pool: ExpertPool) -> None:
        try:
            pool.swap("d")
        except ValueError:
            pool.swap("b")

    def faults(self, pool: ExpertPool) -> list[str]:
        """The faults of a pool after an interruption; an empty list if nothing is."""
        found = []
        names, resident = pool.names, pool.resident
        if sorted(set(names)) != sorted(names) or pool.nbytes < 0:
            found.append(f"names are {names}")
        if resident is not None and not equal(weights(pool.model), self.wanted[resident]):
            found.append("wrong resident")
        if resident is not None and resident not in names:
            found.append("resident without a name")

        wrong: list[str] = []
        done: list[str] = []

        def user() -> None:
            if not pool.names:
                pool.add("a", self.experts["a"])
            for name in pool.names:
                if name == "d":
                    continue
                with pool.use(name) as model:
                    if not equal(weights(model), self.wanted[name]):
                        wrong.append(name)
                done.append(name)

        def caught() -> None:
            try:
                user()
            except BaseException as error:  # noqa: BLE001  (any that was raised)
                wrong.append(repr(error))

        thread = threading.Thread(target=caught, daemon=True)
        thread.start()
        thread.join(1.0)
        if thread.is_alive():
            found.append(f"a hold or a turn leaked (used {done})")
        found += [f"wrong in the next use: {each}" for each in wrong]
        return found
