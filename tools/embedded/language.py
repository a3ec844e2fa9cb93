"""Stage 2: the decoder learns to read symbolic scenes, in which a cell is the sum of its labels' vectors.

Trained on pixels from the start, a decoder this small stayed on a plateau for 100,000 questions. LLaVA's own
order is language, alignment, instruction; this is the language stage.
"""

from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from tools.embedded import vocabulary as v
from tools.embedded.batches import PREFIX, fresh_scenes, make_batch, prefix_ids, token_ids
from tools.embedded.captions import caption_batch
from tools.embedded.curve import read_log
from tools.embedded.decoder import Batch, Watch, decoder_config, drive
from tools.embedded.loop import Metrics, Stage, optimizers_for, rank, run_stage
from tools.embedded.losses import accuracy_by_kind, answer_loss, guide_loss, guided_layers
from tools.embedded.questions import KINDS
from tools.embedded.symbols import FIELDS
from tools.embedded.tokens import build_tokenizer

NOISE = 0.2
LOOK_WEIGHT = 0.3
SHARES = dict.fromkeys(KINDS, 1.0) | {
    "read": 3.0, "relation": 2.0, "count_verify": 2.0, "count_query": 1.5, "same_color": 1.5, "exists": 1.5,
    "exists_color": 1.5, "color_verify": 1.5, "word_verify": 3.0, "sum_query": 2.5, "sum_verify": 2.5,
    "place_query": 0.3, "place_choose": 0.5, "place_verify": 0.5, "caption": 4.0, "option": 3.0, "locate": 2.5,
}  # fmt: skip
CAPTION_STEPS = 200  # captions only; later, captions at every third step
RARE_CAPTIONS = 700  # from this step on, at every sixth
FIRST_STEPS = 350  # first find and name objects; verification builds on that
FIRST = {"color_query": 1.0, "shape_query": 1.0, "read": 1.0, "exists": 1.0, "side_choose": 0.5}


class SceneDecoder(nn.Module):
    """The decoder and embeddings of symbolic cells: (B, N, fields) labels → (B, N, D)."""

    def __init__(self) -> None:
        super().__init__()
        tokenizer = build_tokenizer()
        self.decoder = LlamaForCausalLM(decoder_config(len(tokenizer)))
        width = self.decoder.config.hidden_size
        nn.init.normal_(self.decoder.model.embed_tokens.weight, std=0.5)
        self.cells = nn.ModuleDict({name: nn.Embedding(size, width) for name, size in FIELDS.items()})
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self._name_cells()
        self._start_matching()

    def _name_cells(self) -> None:
        """Initialise each label at its word's embedding, positions on smooth curves, and 'none' at zero."""
        words = {"shape": v.SHAPES, "color": v.COLOR_NAMES, "board": v.COLOR_NAMES, "place": v.PLACE_NAMES}
        words["character"] = tuple(v.SIGN_CHARACTERS)
        with torch.no_grad():
            for name, table in self.cells.items():
                assert isinstance(table, nn.Embedding)
                nn.init.normal_(table.weight, std=0.5)
                for i, word in enumerate(words.get(name, ()), 1):
                    table.weight[i] = self.decoder.model.embed_tokens.weight[token_ids(word)[0]]
                if name in ("row", "col"):
                    table.weight.copy_(_curves(v.GRID, table.weight.shape[1]))
                else:
                    table.weight[0] = 0.0
            embed = self.decoder.model.embed_tokens.weight
            for letter in v.LETTERS:  # a letter inside a word starts as the letter
                embed[token_ids(f"b{letter}")[1]] = embed[token_ids(letter)[0]]

    def _start_matching(self) -> None:
        """Mimetic initialisation: keys equal queries, output projections are transposed value projections.

        Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers" (2023). The LM head
        starts at the word embeddings for the same reason.
        """
        with torch.no_grad():
            for layer in self.decoder.model.layers:
                attention = layer.self_attn
                nn.init.normal_(attention.q_proj.weight, std=0.12)
                attention.k_proj.weight.copy_(attention.q_proj.weight)
                nn.init.normal_(attention.v_proj.weight, std=0.06)
                attention.o_proj.weight.copy_(attention.v_proj.weight.T)
            embed = self.decoder.model.embed_tokens.weight
            self.decoder.lm_head.weight.copy_(0.2 * embed)
            mark = 0.5 * torch.randn(embed.shape[1])  # shared by answer words and the token before the answer
            for word in (*v.SHAPES, *v.COLOR_NAMES, *v.SIZES, *v.PLACE_NAMES, *v.NUMBERS, *v.DIGITS):
                embed[token_ids(word)[0]] += mark
            embed[token_ids("ASSISTANT:")[0]] += 1.5 * mark

    def cell_vectors(self, labels_BNF: Tensor) -> Tensor:
        vectors = torch.stack([table(labels_BNF[..., i]) for i, table in enumerate(self.cells.values())])
        return vectors.sum(0)

    def forward(self, batch: Batch, visual_BND: Tensor, watch: Watch | None = None) -> tuple[Tensor, dict[int, Tensor]]:
        embed = self.decoder.model.embed_tokens
        B = visual_BND.shape[0]
        prefix = embed(torch.tensor(prefix_ids()))[None].expand(B, -1, -1)
        positions = torch.cat([torch.arange(PREFIX).expand(B, -1), batch.positions_BN], 1)
        context = (torch.cat([prefix, visual_BND], 1), positions)
        text = (embed(batch.ids_BMT), batch.start_B)
        return drive(self.decoder, context, batch.weight_BN, text, watch or {})


def _curves(count: int, width: int) -> Tensor:
    """A straight line and slow waves along the axis, in random directions."""
    t = torch.linspace(-1, 1, count)[:, None]
    waves = [t, *(f(t * k * torch.pi / 2) for k in range(1, 5) for f in (torch.sin, torch.cos))]
    return torch.cat(waves, 1) @ (0.25 * torch.randn(len(waves), width))


def lagging(measured: list[Metrics]) -> dict[str, float]:
    """Sampling weights of the kinds; kinds with a low accuracy in the last evaluation get more."""
    if not measured:
        return dict(SHARES)
    return {kind: share * (0.3 + 2 * (1 - measured[0].get(kind, 0.5))) for kind, share in SHARES.items()}


def start_decoder() -> SceneDecoder:
    torch.manual_seed(2)
    return SceneDecoder()


def train_language(
    folder: Path, steps: int = 3400, guide: bool = True, batch: int = 4, questions: int = 12, seed: int = 2
) -> SceneDecoder:
    """The decoder from scratch, on symbolic scenes; `guide` supervises where layer 4 looks."""
    scene_decoder = start_decoder()
    shares = lagging(read_log(folder, "language")[-1:])

    def symbolic(rng: Random, data: Batch) -> Tensor:
        vectors = scene_decoder.cell_vectors(data.labels_BNF)
        noise = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(rng.getrandbits(32)))
        return vectors + NOISE * noise

    def step_fn(step: int) -> tuple[Tensor, Metrics]:
        rng = Random(f"language/{seed}/{step}/{rank()}")
        scenes = fresh_scenes(rng, batch)
        if step < CAPTION_STEPS or step % (6 if step >= RARE_CAPTIONS else 3) == 0:
            data = caption_batch(rng, scenes, questions)
        else:
            data, _ = make_batch(rng, scenes, questions, FIRST if step < FIRST_STEPS else shares)
        logits, watched = scene_decoder(data, symbolic(rng, data), guided_layers(data))
        answer, look = answer_loss(logits, data.targets_BMT), guide_loss(logits, watched, data, guide)
        return answer + LOOK_WEIGHT * look, {"answer": answer.item(), "look": look.item()}

    def evaluate() -> Metrics:
        rng = Random("language/held out")
        found: dict[str, list[float]] = {}
        with torch.no_grad():
            for _ in range(4):
                data, asked = make_batch(rng, fresh_scenes(rng, 8), 20, dict.fromkeys(KINDS, 1.0))
                logits, _ = scene_decoder(data, symbolic(rng, data))
                kinds = [[q.kind for q in row] for row in asked]
                for kind, values in accuracy_by_kind(logits, data, kinds).items():
                    found.setdefault(kind, []).extend(values)
        means = {kind: sum(values) / len(values) for kind, values in sorted(found.items())}
        shares.update(lagging([means]))
        return means | {"mean": sum(means.values()) / len(means)}

    optimizers = optimizers_for(scene_decoder, muon_rate=5e-3, adam_rate=2e-3)
    run_stage(Stage("language", folder, scene_decoder, optimizers, step_fn, steps, evaluate, every=50))
    return scene_decoder
